"""The processes: how web, worker and sweeps are started, watched and stopped."""
