"""Between a client and PostgreSQL: a network that goes deaf, or breaks at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"  # CommandComplete, as the protocol writes it


class Relay:
    """Passes everything on to `port` of this machine.

    While `deaf` is set it passes nothing on and reads nothing more. While `breaks_commits` is set it closes both sides
    when PostgreSQL says that it has committed, so that the client never hears of it; `broken` counts them.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.deaf = threading.Event()
        self.breaks_commits = threading.Event()
        self.broken = 0
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Cut every connection."""
        self._over.set()
        _cut(self._door, *self._sockets)

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._door.accept()
                theirs = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [ours, theirs]
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while found := source.recv(65536):
                if self.deaf.is_set():
                    self._over.wait()
                    return
                if self.breaks_commits.is_set() and _COMMITTED in found:
                    self.broken += 1
                    break
                target.sendall(found)
        _cut(source, target)


def _cut(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
