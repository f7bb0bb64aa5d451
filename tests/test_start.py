"""Starting with something wrong: one sentence, never a stack trace, nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KEY = "tdg_live_" + "s" * 40


def tidings(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "DATA_DIR": str(folder), "BOOTSTRAP_API_KEY": KEY, **settings}
    command = [sys.executable, "-m", "app.entrypoints.cli", *words]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=90, check=False, stdin=subprocess.DEVNULL
    )


def test_another_secret_key_than_the_databases_is_said_at_the_start(tmp_path: Path) -> None:
    assert tidings(tmp_path, "migrate", SECRET_KEY="a" * 40).returncode == 0
    # on a port that no other test is ever given
    done = tidings(tmp_path, "up", SECRET_KEY="b" * 40, PORT="32109")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["SECRET_KEY: is not the one with which this database's secrets were sealed."],
    )


def test_a_known_key_is_not_printed_and_a_foolish_revision_is_refused(tmp_path: Path) -> None:
    done = tidings(tmp_path, "migrate")
    assert KEY not in done.stdout + done.stderr
    done = tidings(tmp_path, "migrate", "--down", "nonsense", "--yes")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    # nor is anybody asked whether they want it
    assert "lost" not in tidings(tmp_path, "migrate", "--down", "nonsense").stdout
    assert "Traceback" not in done.stderr


def test_going_back_asks_first(tmp_path: Path) -> None:
    tidings(tmp_path, "migrate")
    assert tidings(tmp_path, "migrate", "--down", "base").returncode == 1
    assert tidings(tmp_path, "keys", "create").stdout.startswith("tdg_live_")  # everything is still there
    assert tidings(tmp_path, "migrate", "--down", "base", "--yes").returncode == 0
    assert "tidings migrate" in tidings(tmp_path, "keys", "create").stderr
