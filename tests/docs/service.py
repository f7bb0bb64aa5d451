"""The service as a newcomer starts it: `tidings up` in a folder of its own, with nothing in its environment.

    with Service(folder) as service:
        service.call("POST", "/api/events", {...})

`folder` is the working folder (its `.env` counts, and `.venv` leads to this interpreter's), `folder/var` holds the
data. `stop()` ends it as a person would, `kill()` as a power cut would; `start()` begins again on the same data.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.process import free_port

START_SECONDS = 120.0
STOP_SECONDS = 40.0
KEY = "tdg_live_" + "d" * 40

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_ADDRESS = re.compile(r"Tidings is at (\S+)")
_SHOWN_KEY = re.compile(r"export TIDINGS_API_KEY=(tdg_live_\w+)")


def _die_with_the_tests() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Service:
    """See the module. `settings` become environment variables; without `key` the service makes one up and shows it.

    `command` is what is started: `up`, `web` or `worker`.
    """

    def __init__(self, folder: Path, *, key: str | None = KEY, command: str = "up", **settings: str) -> None:
        self.folder = folder
        self.command = command
        self.port = free_port()
        self.key = key or ""
        self.settings = settings | ({"BOOTSTRAP_API_KEY": key} if key else {})
        self._log = folder / f"{command}.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".venv").exists():
            (folder / ".venv").symlink_to(sys.prefix)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def environment(self) -> dict[str, str]:
        """What the service and the commands of the examples see of the outside."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        metrics = str(self.folder / "metrics")
        # A machine that stands still for seconds is no database that is slow.
        patient = {"DATABASE_TIMEOUT": "120000", "MAX_DATABASE_DELAY": "60000"}
        own = {"LANG": "C.UTF-8", "PORT": str(self.port), "PROMETHEUS_MULTIPROC_DIR": metrics}
        return kept | own | patient | self.settings

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until it ends by itself. Returns the exit status."""
        assert self._process is not None
        return self._process.wait(STOP_SECONDS)

    def start(self, *, wait: bool = True) -> None:
        """Start it, `wait` until it answers that it is ready, and learn the key it prints if it made one."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [".venv/bin/tidings", self.command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_the_tests,
                start_new_session=True,  # so that the whole of it can be killed at once
            )
        end = time.monotonic() + START_SECONDS
        while wait and not self._ready():
            assert self._process.poll() is None, f"it ended while it started: {self.log()}"
            assert time.monotonic() < end, f"it is not ready: {self.log()}"
            time.sleep(0.05)
        if shown := _SHOWN_KEY.search(self.log()):
            self.key = shown[1]

    def printed_address(self) -> str:
        """The address that it told the person who started it."""
        found = _ADDRESS.search(self.log())
        assert found, self.log()
        return found[1]

    def log(self) -> str:
        """All it has written since its last start."""
        return self._log.read_text(errors="replace")

    def stop(self, how: int = signal.SIGTERM, *, group: bool = False) -> int:
        """A signal to the one process that was started, or to all of its group, and wait. Returns the exit status."""
        assert self._process is not None
        if group:
            os.killpg(self._process.pid, how)
        else:
            self._process.send_signal(how)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to all of its group."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The parsed answer of one call with the key. Raises AssertionError for anything but a success."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None
        return json.loads(text) if text else None

    def page(self, path: str) -> str:
        """A page as a browser without credentials gets it."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def run(self, *command: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A `tidings` command in the same folder, pointed at this service."""
        return subprocess.run(
            [".venv/bin/tidings", *command],
            cwd=self.folder,
            env=self.client_environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment of somebody who uses the service."""
        return self.environment | {"TIDINGS_API_KEY": self.key, "TIDINGS_URL": self.url}

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
