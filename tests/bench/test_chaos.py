"""Chaos: its short form finds nothing lost and nothing doubled, and it would if a law were broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = {
    "planned exactly once",
    "final",
    "lost",
    "doubled, unexplained",
    "in two workers at once",
    "attempts not on record",
    "illegal changes of status",
}
# Which lines are off when a law is not kept.
BROKEN = {
    "claim": {"doubled, unexplained", "illegal changes of status"},
    "sweep": {"final"},
    "fencing": {"doubled, unexplained", "illegal changes of status"},
}


def run(*options: str) -> tuple[int, str, dict[str, bool]]:
    """The exit status, what was printed, and {line: whether it is good}."""
    command = [sys.executable, "-m", "bench.chaos", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    printed = [line.partition("  ") for line in done.stdout.splitlines()]
    lines = {rest.strip().partition(":")[0]: word == "ok" for word, _, rest in printed if word in ("ok", "FAULT")}
    return done.returncode, done.stdout + done.stderr, lines


@pytest.mark.timeout(420)
def test_every_fault_once_and_nothing_is_lost_or_doubled() -> None:
    status, said, lines = run("--short")
    assert status == 0, said
    assert lines == dict.fromkeys(LINES, True)


@pytest.mark.timeout(420)
@pytest.mark.parametrize("law", BROKEN)
def test_without_a_law_it_fails(law: str) -> None:
    status, said, lines = run("--sabotage", law)
    assert status == 1, said
    assert {line for line, good in lines.items() if not good} >= BROKEN[law], said
