"""An HTTP receiver on loopback whose answers are scripted, the nasty ones too.

    with HttpReceiver() as receiver:
        receiver.on("/busy", Answer(503, {"retry-after": "7"}))
        receiver.on("/slow", hang())
        ... post to receiver.url("/busy") ...
        receiver.wait_for(1)
        receiver.ledger[0].headers["webhook-id"]

Everything it reads is in `ledger`, in order of arrival. Whatever has no script of its own gets `receiver.default`.
An answer is an `Answer`, a function of the request that makes one, or a `Raw` that writes to the socket itself.
Leaving the block ends every connection, the hanging ones too.
"""

from __future__ import annotations

import gzip
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Received:
    """One request as it came. Header names are in lower case; `connection` numbers the TCP connections from 1."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    at: float
    raw_head: bytes = b""


@dataclass(frozen=True)
class Answer:
    """A well-behaved answer. `delay_s`: seconds before it begins. `close`: hang up after it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    close: bool = False

    def bytes(self) -> bytes:
        """As it goes over the wire."""
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True)
class Raw:
    """Writes to the socket itself, then the connection is closed. `stop` is set when the receiver is closing."""

    write: Callable[[socket.socket, threading.Event], None]


Script = Answer | Raw | Callable[[Received], Answer]


def hang() -> Raw:
    """Takes the request and never answers."""
    return Raw(lambda _conn, stop: stop.wait() and None)


def drip(head: bytes, piece: bytes, every_s: float = 0.02) -> Raw:
    """Sends `head`, then `piece` for ever, a little at a time."""

    def write(conn: socket.socket, stop: threading.Event) -> None:
        conn.sendall(head)
        while not stop.wait(every_s):
            conn.sendall(piece)

    return Raw(write)


def drip_headers() -> Raw:
    """A header line every 20 ms, without end."""
    return drip(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n")


def drip_body() -> Raw:
    """All headers, then a byte of the body every 20 ms, without end."""
    return drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x")


def endless_headers() -> Raw:
    """Headers as fast as they go, without end."""
    return drip(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"y" * 1000 + b"\r\n", every_s=0)


def endless_body() -> Raw:
    """A body as fast as it goes, without end."""
    return drip(b"HTTP/1.1 200 OK\r\n\r\n", b"z" * 65536, every_s=0)


def send_and_close(data: bytes) -> Raw:
    """Just these bytes, then the connection is closed."""
    return Raw(lambda conn, _stop: conn.sendall(data))


def close_inside_headers() -> Raw:
    """A good status line, one header, and no more."""
    return send_and_close(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n")


def close_inside_body() -> Raw:
    """Promises 100 bytes and sends 10."""
    return send_and_close(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789")


def early_hints(final: Answer) -> Raw:
    """A 103 before the answer."""
    return send_and_close(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n" + final.bytes())


def reset() -> Raw:
    """Takes the request and breaks the connection off."""

    def write(conn: socket.socket, _stop: threading.Event) -> None:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    return Raw(write)


def gzip_bomb(mebibytes: int = 100) -> Answer:
    """A small compressed body that would fill `mebibytes` if somebody unpacked it."""
    return Answer(200, {"content-encoding": "gzip"}, gzip.compress(bytes(mebibytes << 20)))


def redirect(location: str, status: int = 302) -> Answer:
    """Sends the caller elsewhere."""
    return Answer(status, {"location": location})


class HttpReceiver:
    """See the module. `tls`: a server context to speak HTTPS with. `host`: the address to listen on."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.ledger: list[Received] = []
        self.default: Script = Answer(200, {}, b"ok")
        self.connections = 0
        self._scripts: dict[str, list[Script]] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._server = _Server((host, 0), _handler(self))
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            for conn in self._open:
                conn.close()
        self._thread.join()

    def url(self, path: str = "/", host: str | None = None) -> str:
        """Its address with this path; `host` to be called by another name."""
        return f"{'https' if self._tls else 'http'}://{host or self.host}:{self.port}{path}"

    def on(self, path: str, *scripts: Script) -> None:
        """Answer this path so: the scripts in order, the last one for ever after."""
        with self._changed:
            self._scripts[path] = list(scripts)

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[Received]:
        """Wait until `count` requests have come, and give them. Raises AssertionError when they do not."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.ledger) >= count, timeout_s)
            assert came, f"{len(self.ledger)} of {count} requests came"
            return list(self.ledger)

    def _serve(self, conn: socket.socket) -> None:
        with self._changed:
            self.connections += 1
            number = self.connections
        if self._tls is not None:
            conn = self._tls.wrap_socket(conn, server_side=True)
        with self._changed:
            self._open.add(conn)
        try:
            with conn, conn.makefile("rb") as stream:
                while (request := _read(stream, number)) is not None and self._answer(conn, request):
                    pass
        finally:
            with self._changed:
                self._open.discard(conn)

    def _answer(self, conn: socket.socket, request: Received) -> bool:
        """Answer one request; true when the connection may be used again."""
        with self._changed:
            self.ledger.append(request)
            scripts = self._scripts.get(request.path.partition("?")[0], [self.default])
            script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
            self._changed.notify_all()
        if isinstance(script, Raw):
            script.write(conn, self._stop)
            return False
        answer = script if isinstance(script, Answer) else script(request)
        if answer.delay_s and self._stop.wait(answer.delay_s):
            return False
        conn.sendall(answer.bytes())
        return not answer.close


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, request: object, client_address: object) -> None:
        """Callers that hang up are what this server is for."""


def _handler(receiver: HttpReceiver) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            receiver._serve(self.request)

    return Handler


def _read(stream: object, connection: int) -> Received | None:
    """One request from the stream; None when the other side is done."""
    readline, read = stream.readline, stream.read  # type: ignore[attr-defined]
    first = readline()
    if not first:
        return None
    method, path, _version = first.decode("latin-1").split(" ", 2)
    head, headers = [first], {}
    while (line := readline()) not in (b"\r\n", b"\n", b""):
        head.append(line)
        name, _colon, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = read(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body, connection, time.time(), b"".join(head))
