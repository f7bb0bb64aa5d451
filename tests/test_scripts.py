"""What `./run` and `./test` rest on: the lock files, and the set-up's way with a machine that lacks something."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ["run", "test", ".ci/run"]
LOCKS = ["requirements.lock", "requirements-test.lock"]


def pins(lock: str) -> dict[str, str]:
    """The names in a lock file, each with its version and marker."""
    lines = (ROOT / lock).read_text().splitlines()
    return dict(line.rstrip(" \\").split("==", 1) for line in lines if re.match(r"[a-z0-9]", line))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "://" not in text
    for entry in re.split(r"\n(?=[a-z0-9])", text.strip()):
        assert "--hash=sha256:" in entry, entry


def test_the_test_lock_holds_everything_that_the_service_runs_on() -> None:
    # ./run takes a virtual environment that ./test has made, and does not look further.
    run, test = pins("requirements.lock"), pins("requirements-test.lock")

    assert {name: test.get(name) for name in run} == run


@pytest.mark.parametrize("lock", LOCKS)
def test_the_set_up_finds_what_builds_the_source_packages(lock: str) -> None:
    assert "setuptools" in pins(lock)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_executable_and_parse(command: str) -> None:
    path = ROOT / command

    assert path.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", path], check=True)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A copy of the commands in a folder with a space in its name, with a virtual environment that only echoes."""
    folder = tmp_path / "my checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ["run", "pyproject.toml", *LOCKS]:
        shutil.copy(ROOT / name, folder / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in {"tidings": 'printf "%s|" "$@" "$PWD"', "python": "exit 1"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    script = f'root="{folder}"; . scripts/venv.sh; stamp_for run > .venv/.made-for-run'
    subprocess.run(["bash", "-euc", script], cwd=folder, check=True)
    return folder


def test_run_hands_its_arguments_on_from_any_folder_and_through_a_link(elsewhere: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(elsewhere / "run")

    done = subprocess.run([link, "--port", "a b"], cwd="/", capture_output=True, text=True, check=True)

    assert done.stdout == f"up|--port|a b|{elsewhere}|"
    assert done.stderr == ""


@pytest.mark.parametrize("spoil", ["lock", "unfinished", "moved"])
def test_a_virtual_environment_that_no_longer_fits_is_not_used(elsewhere: Path, tmp_path: Path, spoil: str) -> None:
    if spoil == "lock":
        with (elsewhere / "requirements.lock").open("a") as lock:
            lock.write("# changed\n")
    elif spoil == "unfinished":
        (elsewhere / ".venv" / ".unfinished").touch()
    else:
        elsewhere = elsewhere.rename(tmp_path / "moved")

    done = run_without_python(elsewhere, tmp_path)

    assert done.returncode == 1
    assert "up|" not in done.stdout


def test_without_python_and_apt_it_says_what_to_install(elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / ".venv" / ".unfinished").touch()

    done = run_without_python(elsewhere, tmp_path)

    assert done.returncode == 1
    assert done.stderr == "tidings: please install these (Debian's names): python3 python3-venv\n"


def run_without_python(folder: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run `./run` on a machine that has neither Python nor apt, as far as its PATH goes."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "readlink", "sha256sum", "flock"):
        (programs / name).symlink_to(shutil.which(name) or name)
    # find_python looks at Debian's own path as well as at PATH.
    debian = folder / "scripts" / "debian.sh"
    debian.write_text(debian.read_text().replace("/usr/bin/python3", "/nonexistent/python3"))
    env = {**os.environ, "PATH": str(programs)}
    return subprocess.run([programs / "bash", folder / "run"], env=env, capture_output=True, text=True, check=False)
