"""The benchmarks of lanes, fairness and backlogs run through with tiny numbers. No time is looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def printed(name: str, *options: str) -> list[str]:
    """What the lines of a short run are about."""
    command = [sys.executable, "-m", f"bench.{name}", "--short", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line[11:37].strip() for line in done.stdout.splitlines() if line.startswith("production")]


def test_single_events_arrive_while_bulk_waits() -> None:
    assert printed("lanes", "--scene", "bulk") == ["bulk: webhook", "bulk: email", "bulk: in_app"]


def test_single_events_arrive_while_another_tenants_slow_ones_wait() -> None:
    assert printed("lanes", "--scene", "slow") == ["slow: webhook", "slow: email", "slow: in_app"]


def test_claims_are_measured() -> None:
    assert printed("backlog") == ["200", "200, 20 tenants"]
