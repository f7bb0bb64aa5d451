"""/health/live, /health/ready and /metrics of `tidings worker`, answered by its parent for all worker processes.

Read by path and with nothing of the application, as `supervisor.py` is: what it knows, the processes wrote into their
folder (`heart.py`, `metrics_sharing.py`). A client has five seconds, and there are never more than sixteen: when one
more comes, whoever has been there longest is cut off, so that those who dawdle keep no probe out.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess

SILENT_SECONDS = 10.0  # a process beats every second
ASKING_SECONDS = 30.0  # a part that keeps a process waiting so long is down
DEAD_SECONDS = 90.0  # when no process beats for so long, only a new start helps
_CLIENT_SECONDS = 5.0
_ROOM_SECONDS = 1.0
_MOST_CLIENTS = 16
_MOST_THREADS = 64  # with those of clients that are cut off
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
_Answer = tuple[int, dict[str, Any]]


class Observer(ThreadingHTTPServer):
    """Serves on a socket that listens already. `count`: how many worker processes there should be."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, folder: Path, token: str, count: int) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.folder = folder
        self.token = token
        self.count = count
        self._last_beat = time.monotonic()
        self._room = threading.BoundedSemaphore(_MOST_THREADS)
        self._clients: dict[socket.socket, None] = {}  # the one that came first is the first
        self._lock = threading.Lock()

    def live(self) -> _Answer:
        """503 when none of the processes has given a sign of life for a long time."""
        if self._beats():
            self._last_beat = time.monotonic()
        silent = time.monotonic() - self._last_beat
        if silent > DEAD_SECONDS:
            return 503, {"status": "down", "parts": {"workers": f"silent for {silent:.0f} s"}}
        return 200, {"status": "ok"}

    def ready(self) -> _Answer:
        """200 when a process can work; each part that is down has its reason."""
        beats = self._beats()
        parts = {"workers": "ok" if len(beats) >= self.count else f"{len(beats)} of {self.count}"}
        for beat in beats:
            waiting = time.time() - beat["checkedAt"] > ASKING_SECONDS
            for name, state in ({"database": "no answer"} if waiting else beat["parts"]).items():
                if parts.get(name, "ok") == "ok":
                    parts[name] = state
        down = not beats or any(parts.get(name, "ok") != "ok" for name in ("database", "schema"))
        degraded = any(state != "ok" for state in parts.values())
        return 503 if down else 200, {"status": "down" if down else "degraded" if degraded else "ok", "parts": parts}

    def metrics(self) -> bytes:
        """Prometheus text, of all the processes together."""
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self.folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread. Whoever has been there longest makes room, if there is none."""
        with self._lock:
            self._clients[request] = None
            if len(self._clients) > _MOST_CLIENTS:
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                _hang_up(oldest)
        if self._room.acquire(timeout=_ROOM_SECONDS):
            super().process_request(request, client_address)
        else:
            self._leave(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One client, from its first byte to its last."""
        end = threading.Timer(_CLIENT_SECONDS, _hang_up, (request,))
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._leave(request)
            self._room.release()

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            self._clients.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is nobody's fault."""

    def _beats(self) -> list[dict[str, Any]]:
        found = []
        for path in self.folder.glob("beat-*"):
            with suppress(OSError, ValueError):
                beat = json.loads(path.read_text())
                if time.time() - beat["at"] < SILENT_SECONDS:
                    found.append(beat)
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Observer

    def do_GET(self) -> None:
        routes = {"/health/live": self.server.live, "/health/ready": self.server.ready}
        path = self.path.partition("?")[0]
        if path in routes:
            status, body = routes[path]()
            self._answer(status, json.dumps(body).encode(), "application/json")
        elif path == "/metrics":
            self._metrics()
        else:
            self._answer(404, b"", "text/plain")

    def _metrics(self) -> None:
        """With a token: whoever has it. Without: only this machine, and nobody behind a proxy."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.token and not hmac.compare_digest(given.encode(), self.server.token.encode()):
            self._answer(401, b"The metrics' token is needed.\n", "text/plain")
        elif not self.server.token and not self._local():
            self._answer(403, b"Metrics are for this machine only; set METRICS_TOKEN.\n", "text/plain")
        else:
            self._answer(200, self.server.metrics(), CONTENT_TYPE_LATEST)

    def _local(self) -> bool:
        if any(name in self.headers for name in _FORWARDED):
            return False
        return ipaddress.ip_address(self.client_address[0].partition("%")[0]).is_loopback

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: nobody wants to read of them."""

    def version_string(self) -> str:
        """What answers; not which Python."""
        return "Tidings"


def observe(told: int, count: int) -> None:
    """Serve in a thread. `told`: a pipe with {"socket": fd, "folder", "token"}, so that no secret is an argument."""
    with os.fdopen(told) as pipe:
        facts = json.load(pipe)
    listening = socket.socket(fileno=facts["socket"])
    listening.set_inheritable(False)
    observer = Observer(listening, Path(facts["folder"]), facts["token"], count)
    threading.Thread(target=observer.serve_forever, name="observer", daemon=True).start()


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
