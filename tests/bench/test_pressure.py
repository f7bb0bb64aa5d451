"""The benchmarks of lanes, fairness, backlogs and failures run through with tiny numbers. No time is looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(520)  # real processes, on a machine that may be busy


def printed(name: str, *options: str, shape: str = "production") -> list[str]:
    """What the lines of a short run are about."""
    command = [sys.executable, "-m", f"bench.{name}", "--short", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line[11:37].strip() for line in done.stdout.splitlines() if line.startswith(shape)]


def test_single_events_arrive_while_bulk_waits() -> None:
    assert printed("lanes", "--scene", "bulk") == ["bulk: webhook", "bulk: email", "bulk: in_app"]


def test_single_events_arrive_while_another_tenants_slow_ones_wait() -> None:
    assert printed("lanes", "--scene", "slow") == ["slow: webhook", "slow: email", "slow: in_app"]


def test_claims_are_measured() -> None:
    assert printed("backlog") == ["200", "200, 20 tenants"]


def test_accepting_is_measured_while_others_are_delivered() -> None:
    assert printed("busy") == ["idle", "busy", "busy / idle"]


@pytest.mark.parametrize("shape", ["embedded", "production"])
def test_half_of_the_deliveries_fail_once_and_all_arrive(shape: str) -> None:
    assert printed("failing", "--shape", shape, "--channel", "webhook", shape=shape) == ["webhook"]
