"""Private servers for the tests: started on free ports, stopped with the tests, gone even after `kill -9`.

Everything works as root (a server that refuses to be root is given an ordinary account) and as an ordinary user.
Two things end what a killed test run leaves: the kernel signals a server when the thread that started it dies
(`prctl(2)`, PR_SET_PDEATHSIG), and one small shell per test process, waiting for the end of its standard input,
removes the folders.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Server = TypeVar("Server")

STOP_TIMEOUT = 10.0
"""Seconds a server is given to stop before it is killed."""

_FIRST_PORT, _PORTS, _PROCESSES = 10_000, 2_700, 8  # ports of a test process, and how many have some of their own
_given: set[int] = set()

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

# Reads folders, one a line; when its input ends, for whatever reason, removes them. The servers are dying at the same
# moment and may still write, so it tries a few times.
_SWEEPER = """
while IFS= read -r folder; do set -- "$@" "$folder"; done
for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$@" 2>/dev/null && exit; sleep 0.5; done
"""


class StartError(RuntimeError):
    """A server did not come up; the text ends with the end of its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on.

    It is taken from below the range that the kernel gives to outgoing connections (32768 and up on Linux), so that no
    client can take it before the server does, and from a range of this test process, of which none is given twice
    before all have been. Somebody else on the machine still might take it: starters try again. Not one that browsers
    refuse to call.
    """
    begin = _FIRST_PORT + _PORTS * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _PROCESSES)
    if len(_given) > _PORTS // 2:
        _given.clear()
    while True:
        port = begin + secrets.randbelow(_PORTS)
        if port in _given or port == 10_080:  # Amanda's
            continue
        _given.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find_program(name: str, *patterns: str) -> str:
    """Return the path of a program: the newest that matches one of the glob patterns, or the first on the PATH.

    Raises FileNotFoundError, which fails the test run: a missing server is never a reason to skip.
    """
    for pattern in patterns:
        if found := glob.glob(pattern):
            return max(found, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.split("/")])
    on_path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if on_path is None:
        raise FileNotFoundError(f"{name} is not installed; ./test installs it")
    return on_path


class ServerProcess:
    """One server as a child process, with a folder of its own that goes when it goes."""

    def __init__(self, name: str, folder: Path, account: str | None = None) -> None:
        """Hold a server that is not started yet; `account` names the user it runs as when we are root."""
        self.name = name
        self.folder = folder
        self.account = pwd.getpwnam(account) if account is not None and os.geteuid() == 0 else None
        self.popen: subprocess.Popen[bytes] | None = None
        if self.account is not None:
            os.chown(folder, self.account.pw_uid, self.account.pw_gid)

    @property
    def pid(self) -> int:
        """The process id; the server must have been started."""
        if self.popen is None:
            raise StartError(f"{self.name} was not started")
        return self.popen.pid

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run a command that ends by itself (such as initdb) as the server's user; raises StartError if it fails."""
        done = subprocess.run(command, cwd="/", env=env, stdin=subprocess.DEVNULL, capture_output=True, **self._user())
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise StartError(f"{command[0]} failed with {done.returncode}: {said[-2000:]}")

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, death_signal: int = signal.SIGKILL
    ) -> None:
        """Start the server; `death_signal` is what it gets when we die.

        Call it from a thread that lives as long as the server shall: the kernel watches the thread, not the process.
        """
        parent = os.getpid()

        def die_with_parent() -> None:
            # Runs in the child after it has changed its user, which would have cleared the setting.
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:
                os._exit(1)

        with (self.folder / "log").open("ab") as log:
            self.popen = subprocess.Popen(
                command,
                cwd="/",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # the only place from which prctl can be called
                start_new_session=True,  # Ctrl-C is for the tests, which then stop their servers in order
                **self._user(),
            )

    def wait_until(self, is_ready: Callable[[], bool], timeout: float = 90.0) -> None:
        """Wait until `is_ready` is true (an OSError in it means: not yet); raises StartError if it never is."""
        end = time.monotonic() + timeout
        while True:
            if self.popen is None or self.popen.poll() is not None:
                raise StartError(f"{self.name} ended while it started: {self.log()[-2000:]}")
            with contextlib.suppress(OSError):
                if is_ready():
                    return
            if time.monotonic() > end:
                raise StartError(f"{self.name} was not ready after {timeout:g} s: {self.log()[-2000:]}")
            time.sleep(0.02)

    def log(self) -> str:
        """What the server has written so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self, how: int = signal.SIGTERM) -> None:
        """Stop the server with the signal `how`, kill it if that takes too long, and remove its folder."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(how)
            try:
                self.popen.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _user(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}


def make_folder(prefix: str, durable: bool = False) -> Path:
    """Make a folder that is removed at the latest when this process ends, even if it is killed.

    A short path that every account can reach; a durable one is on a disk, where /tmp may be memory (Debian 13).
    """
    folder = Path(tempfile.mkdtemp(prefix=f"tidings-{prefix}-", dir="/var/tmp" if durable else "/tmp"))
    sweeper = _sweeper(os.getpid())
    if sweeper.stdin is None:
        raise StartError("the sweeper has no input")
    sweeper.stdin.write(f"{folder}\n".encode())
    return folder


def start_with_retries(start: Callable[[], Server], tries: int = 3) -> Server:
    """Call `start` until it succeeds: somebody else may have taken the port it had found free."""
    for left in range(tries - 1, -1, -1):
        try:
            return start()
        except StartError:
            if left == 0:
                raise
    raise ValueError("tries must be at least 1")


@functools.cache
def _sweeper(pid: int) -> subprocess.Popen[bytes]:
    """The sweeper of the process `pid`: a forked child must not hand its folders to its parent's."""
    sweeper = subprocess.Popen(
        ["/bin/sh", "-c", _SWEEPER, f"sweeper-of-{pid}"],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
    )
    atexit.register(_end_sweeper, sweeper, pid)
    return sweeper


def _end_sweeper(sweeper: subprocess.Popen[bytes], pid: int) -> None:
    if os.getpid() == pid and sweeper.stdin is not None:
        sweeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            sweeper.wait(STOP_TIMEOUT)
