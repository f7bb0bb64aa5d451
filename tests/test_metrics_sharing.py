"""Folders in which processes count together: whose they are, what is removed, and who takes over whose file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.metrics_sharing import FOLDER, UnusableFolderError, prepare

_COUNT = """
import sys
from app.metrics import EVENTS_DUPLICATE, SHARED
from app.metrics_sharing import number
EVENTS_DUPLICATE.inc()
print(SHARED is not None, number(), flush=True)
sys.stdin.read()
"""


def test_a_folder_is_made_for_us_alone_and_emptied_with_nothing_around_it(tmp_path: Path) -> None:
    made = prepare(str(tmp_path), "web-8000")
    (made / "counter_0.db").write_text("old")
    (made / "left").mkdir()
    (tmp_path / "web-8001").mkdir()
    (tmp_path / "mine.txt").write_text("keep me")

    again = prepare(str(tmp_path), "web-8000")

    assert again == made
    assert not list(made.iterdir())
    assert made.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "web-8001").is_dir()
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_without_a_base_it_stands_beside_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert prepare("", "worker-9464") == tmp_path / f"tidings-{os.getuid()}-worker-9464"


def test_what_somebody_else_put_there_is_not_used(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("keep me")
    (tmp_path / "web-8000").symlink_to(elsewhere)
    (tmp_path / "web-8001").write_text("a file")

    for name in ("web-8000", "web-8001"):
        with pytest.raises(UnusableFolderError):
            prepare(str(tmp_path), name)

    assert (elsewhere / "precious").read_text() == "keep me"


class Counting:
    """A process that has counted one, and holds on until it is let go."""

    def __init__(self, folder: Path | None) -> None:
        environment = {"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": "/nowhere"}
        environment |= {FOLDER: str(folder)} if folder else {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COUNT], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.said = self.process.stdout.readline().split()

    def end(self, how: int) -> None:
        self.process.send_signal(how)
        self.process.communicate()


def test_a_successor_takes_the_number_and_the_file_of_who_died(tmp_path: Path) -> None:
    first, second = Counting(tmp_path), Counting(tmp_path)
    first.end(signal.SIGKILL)
    third = Counting(tmp_path)

    assert [one.said for one in (first, second, third)] == [["True", "0"], ["True", "1"], ["True", "0"]]
    assert sorted(path.name for path in tmp_path.glob("counter_*")) == ["counter_0.db", "counter_1.db"]
    for one in (second, third):
        one.end(signal.SIGTERM)


def test_who_was_not_told_of_a_folder_counts_for_itself() -> None:
    alone = Counting(None)
    missing = Counting(Path("/nowhere/at/all"))

    assert alone.said == missing.said == ["False", "0"]
    for one in (alone, missing):
        one.end(signal.SIGTERM)
