"""Every benchmark runs through with tiny numbers, in both shapes, and prints its lines. No time is looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(520)  # real processes, on a machine that may be busy

LINES = {
    "accept": ["bare row", "one by one", "batches of 3"],
    "fanout": ["in_app", "email", "webhook-1", "singles", "webhook", "idle, ms of CPU a second"],
    "memory": ["after start", "after 24 deliveries"],
    "latency": ["webhook", "email"],
    "topics": ["planning", "in_app", "email"],
}


@pytest.mark.parametrize("shape", ["embedded", "production"])
@pytest.mark.parametrize("name", LINES)
def test_a_short_run_prints_its_lines(name: str, shape: str) -> None:
    command = [sys.executable, "-m", f"bench.{name}", "--short", "--shape", shape]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    printed = [line for line in done.stdout.splitlines() if line.startswith(shape)]
    assert [line[11:37].strip() for line in printed] == LINES[name]
