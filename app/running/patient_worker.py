"""Gunicorn's threads, but only for requests that have arrived: a client that stalls holds none of them for long.

    worker_class = PatientWorker        # in gunicorn's configuration

The main loop gathers the head of each request (the request line and the headers) as it comes; a thread gets the
connection when the head is whole. A head has ten seconds in all. The body is read by the thread: ten seconds of
silence end it. So does a client that takes nothing of the answer, after some fifteen seconds (the kernel takes a
little of it, and waits again). A slow line that moves is served, however long it takes. Nor does the main loop wait
for a client that is told to go.

At the end (SIGTERM, SIGINT) the port closes at once, so that who comes later is refused and can go elsewhere; who has
connected before is answered.

Imports nothing but gunicorn, so that gunicorn's parent process may load it and stays small.
"""

from __future__ import annotations

import ctypes
import select
import selectors
import signal
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import Any

from gunicorn import http
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker

HEAD_SECONDS = 10.0
SILENCE_SECONDS = 10
TAKES_NOTHING_SECONDS = 5
LEAVING_SECONDS = 2.0
LONGEST_HEAD = 65_536
_MOST_DRAINED = 65_536
_END = b"\r\n\r\n"
_PIECE = 16_384
_SETTLE_SECONDS = 0.25  # in which who is half in comes through
_SO_ATTACH_FILTER = 26
# For the kernel (BPF): of a packet's TCP flags, SYN without ACK is someone new, and is dropped. They ask again a second
# later, and are refused then.
_NO_NEWCOMERS = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF_FFFF))
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def _keep_out(listener: Any) -> None:
    """Have the kernel take no new connection. Raises OSError when it knows no such filter."""
    program = b"".join(struct.pack("HBBI", *step) for step in _NO_NEWCOMERS)
    held = ctypes.create_string_buffer(program)
    listener.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_NEWCOMERS), ctypes.addressof(held))
    )


class PatientUnreader(SocketUnreader):  # type: ignore[misc]
    """What gunicorn's parser reads from. Silence is the same to it as a client that has gone."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes of the body; none when the client is silent for too long."""
        try:
            return bytes(super().chunk(size_hint))
        except BlockingIOError:  # what SO_RCVTIMEO comes out as
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RD)  # whoever reads on is at the end at once
            return b""


class _Head:
    """What has come of a request so far, and until when it has to be whole (by time.monotonic)."""

    __slots__ = ("begun", "due", "gone", "listened", "whole")

    def __init__(self, begun: bytes) -> None:
        self.begun = bytearray(begun)
        self.due = time.monotonic() + HEAD_SECONDS
        self.whole = _END in begun
        self.gone = False
        self.listened = False  # whether the main loop waits for more

    def take(self, piece: bytes) -> None:
        """One more piece; an empty one means that there is no more."""
        searched = max(0, len(self.begun) - len(_END))
        self.begun += piece
        self.whole = self.whole or self.begun.find(_END, searched) >= 0
        self.gone = not piece


class _Leaving:
    """A connection that is answered and closed on our side, and until when its client may go on sending."""

    __slots__ = ("drained", "due")

    def __init__(self) -> None:
        self.drained = 0
        self.due = time.monotonic() + LEAVING_SECONDS


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's gthread worker with the patience described above. Without TLS of its own: that is a proxy's work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # {connection: what it waits for}, the first due first: each dictionary has one patience.
        self._heads: dict[Any, _Head] = {}
        self._leaving: dict[Any, _Leaving] = {}
        self._is_ssl: bool | None = None

    def init_signals(self) -> None:
        """As gunicorn's, but Ctrl-C, which a terminal sends to every process, ends it in order too."""
        super().init_signals()
        signal.signal(signal.SIGINT, self.handle_exit)
        signal.siginterrupt(signal.SIGINT, False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or cease to take new connections; at the end for good."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        self._close_port()

    def _close_port(self) -> None:
        """Close the listening sockets without cutting anybody off: whoever is in their queues then is reset.

        So nobody new gets in, those who are half in come through, and all are taken out of the queue before.
        """
        for listener in self.sockets:
            with suppress(OSError):  # not every kernel filters; then the queue is emptied all the same
                _keep_out(listener)
        end = time.monotonic() + _SETTLE_SECONDS
        while True:
            left = end - time.monotonic()
            waiting, _, _ = select.select(self.sockets, (), (), max(left, 0.0))
            if not waiting and left <= 0:
                break
            for listener in waiting:
                self.accept(listener)
        for listener in self.sockets:
            listener.close()

    def enqueue_req(self, conn: Any) -> None:
        """Gunicorn has a connection, new or kept, on which a request begins. In the main loop."""
        if self._is_ssl is None:
            self._is_ssl = self.cfg.is_ssl
        if self._is_ssl:
            super().enqueue_req(conn)
            return
        if conn.parser is None:
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = PatientUnreader(conn.sock)
            for option, seconds in ((socket.SO_RCVTIMEO, SILENCE_SECONDS), (socket.SO_SNDTIMEO, TAKES_NOTHING_SECONDS)):
                conn.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
        conn.sock.setblocking(False)
        head = self._heads[conn] = _Head(conn.parser.unreader.take_buffered())
        if self._waits_on(conn):  # nearly always it is there already
            head.listened = True
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._hear, conn))

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request. In a thread. Who takes nothing of the answer is the same to us as who has gone."""
        try:
            return bool(super().handle_request(req, conn))
        except BlockingIOError:  # what SO_SNDTIMEO comes out as
            return False

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A request is answered. A connection that is not kept is closed without waiting for it in the main loop."""
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError, KeyError):
            self._drop(conn)
        else:
            self._leaving[conn] = _Leaving()

    def murder_pending(self) -> None:
        """Close what was waited for in vain. Gunicorn's main loop calls this every second."""
        super().murder_pending()
        now = time.monotonic()
        early = 0.0 if self.alive else HEAD_SECONDS - LEAVING_SECONDS
        for waiting, sooner in ((self._heads, early), (self._leaving, 0.0)):
            for conn in list(takewhile(lambda conn: waiting[conn].due - sooner <= now, waiting)):  # noqa: B023
                self._forget(conn)
                self._drop(conn)

    def _hear(self, conn: Any, _sock: Any) -> None:
        """Something of a head has come, or the client has gone."""
        self._waits_on(conn)

    def _waits_on(self, conn: Any) -> bool:
        """Take what has come of a head. False: it is whole, or its client has gone."""
        head = self._heads[conn]
        try:
            head.take(conn.sock.recv(_PIECE))
        except BlockingIOError:
            pass
        except OSError:
            head.gone = True
        if head.whole:
            self._forget(conn)
            conn.parser.unreader.unread(bytes(head.begun))
            conn.data_ready = True
            super().enqueue_req(conn)
        elif head.gone or len(head.begun) > LONGEST_HEAD:
            self._forget(conn)
            if not head.gone:
                with suppress(OSError):
                    conn.sock.send(_TOO_LONG)
            self._drop(conn)
        return conn in self._heads

    def _drain(self, conn: Any, _sock: Any) -> None:
        """What a client still sends that is told to go; closing at once could cost it the end of the answer."""
        leaving = self._leaving[conn]
        try:
            piece = conn.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        leaving.drained += len(piece)
        if not piece or leaving.drained > _MOST_DRAINED:
            self._forget(conn)
            self._drop(conn)

    def _forget(self, conn: Any) -> None:
        head, leaving = self._heads.pop(conn, None), self._leaving.pop(conn, None)
        if leaving or (head and head.listened):
            with suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)

    def _drop(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()
