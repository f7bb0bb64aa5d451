"""A short form of the fuzz campaign; `python -m bench.fuzz` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(420)  # real processes, on a machine that may be busy
@pytest.mark.parametrize("shape", ["embedded", "production"])
def test_generated_requests_end_in_no_server_error(shape: str) -> None:
    command = [sys.executable, "-m", "bench.fuzz", "--short", "--shape", shape]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
