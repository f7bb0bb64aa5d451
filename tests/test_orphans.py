"""A worker process whose supervisor has died ends by itself: nobody would count it, stop it or replace it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 120.0  # to load the application on a busy machine, and to stop


@pytest.fixture
def shape() -> str:
    return "production"


def test_a_worker_whose_supervisor_died_while_it_was_loading_ends(
    shape_settings: dict[str, Any], tenant_id: str, tmp_path: Path
) -> None:
    # given a supervisor that is gone before the worker that it started looks for it
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    settings = {
        name.upper(): str(shape_settings[name]) for name in ("database_url", "redis_url", "secret_key", "data_dir")
    }
    command = [sys.executable, "-m", "app.running.worker_process", str(gone.pid)]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
        try:
            # then the worker ends in order, without being told
            assert worker.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
        finally:
            worker.kill()
            worker.wait()
    assert "parent_gone" in (tmp_path / "log").read_text()
