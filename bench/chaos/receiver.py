"""What the three receivers share: how they behave on command, and the ledger of what they took.

How one behaves is the order of the topic KIND, one of MODES. What it accepts it notes in FOLDER/ledger-KIND before it
answers: {at, id, again}. It accepts only what it also answers well and in full: that is what its caller can know.
"""

from __future__ import annotations

import asyncio
import select
from pathlib import Path
from typing import Any

from bench.chaos.control import LOOK_SECONDS, Notes, Order

OK, SLOW, REFUSED, HUNG, HALF_OPEN, DRIP, ERROR, BUSY, CUT = MODES = (
    "ok",
    "slow",  # answers late, but in time
    "refused",  # nobody listens, kept connections are closed
    "hung",  # reads, never answers
    "half_open",  # takes connections and never reads from them
    "drip",  # a byte or a line at a time, without end
    "error",  # 500, or SMTP's 451
    "busy",  # 429 with Retry-After, or SMTP's 421
    "cut",  # closes after the headers, or after the mail's content
)
SLOW_SECONDS = 0.1
DRIP_SECONDS = 0.2


class Receiver:
    """What the connections of one receiver share."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.mode = OK
        self.kind = kind
        self.connections: set[Connection] = set()
        self._order = Order(folder, kind, OK)
        self._ledger = Notes(folder / f"ledger-{kind}")
        self._seen: set[str] = set()
        self._server: asyncio.Server | None = None

    def accept(self, delivery_id: str, *, dedupe: bool) -> None:
        """Note a message as taken. With `dedupe` one that came before is noted as such, and was not taken twice."""
        again = dedupe and delivery_id in self._seen
        self._seen.add(delivery_id)
        self._ledger.add(id=delivery_id, dedupe=dedupe, again=again)

    async def serve(self, port: int, protocol: Any) -> None:
        """Listen, and do as ordered, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            wanted = self._order.get()
            if wanted != self.mode:
                self._change(wanted)
            if self.mode == REFUSED and self._server:
                self._server.close()
                self._server = None
            elif self.mode != REFUSED and self._server is None:
                self._server = await loop.create_server(lambda: protocol(self), "127.0.0.1", port, backlog=1024)
            await asyncio.sleep(LOOK_SECONDS)

    def _change(self, mode: str) -> None:
        """Connections that are stuck end with what made them stick; those that are not stay, except when refused."""
        self.mode = mode
        for connection in list(self.connections):
            if mode == REFUSED or connection.stuck:
                connection.transport.close()
            elif mode == HALF_OPEN:
                connection.stick()
                connection.transport.pause_reading()


class Connection(asyncio.Protocol):
    """What both protocols do alike."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.stuck = False
        self.waiting = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """A caller has come."""
        self.transport = transport
        self.receiver.connections.add(self)
        if self.receiver.mode == HALF_OPEN:
            self.stick()
            transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It has gone."""
        self.receiver.connections.discard(self)

    def is_heard(self) -> bool:
        """Whether the caller is still there to get an answer: what nobody waits for is not accepted."""
        if self.stuck or self.transport.is_closing():
            return False
        gone = select.poll()
        gone.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return not gone.poll(0)

    def stick(self) -> None:
        """From here on nothing more is done for this caller; its connection ends with the mode."""
        self.stuck = True

    def drip(self, piece: bytes) -> None:
        """Send this again and again, slowly, until the caller has had enough."""
        self.stick()
        if not self.transport.is_closing():
            self.transport.write(piece)
            asyncio.get_running_loop().call_later(DRIP_SECONDS, self.drip, piece)
