"""An SMTP server that takes every mail, unless it was told to misbehave."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from bench.chaos.receiver import BUSY, CUT, DRIP, ERROR, HUNG, SLOW, SLOW_SECONDS, Connection

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^@>]+)@", re.IGNORECASE | re.MULTILINE)
_EHLO = b"250-chaos\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
_REPLIES = {b"EHLO": _EHLO, b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}


class SmtpConnection(Connection):
    """One caller. Pipelined commands are answered in their order."""

    def __init__(self, receiver: Any) -> None:
        super().__init__(receiver)
        self._in_data = False

    def connection_made(self, transport: Any) -> None:
        """Greet, as the order of the moment is."""
        super().connection_made(transport)
        mode = self.receiver.mode
        if mode == BUSY:
            transport.write(b"421 4.7.0 too many connections, come back later\r\n")
            transport.close()
        elif mode == HUNG:
            self.stick()
        elif mode == DRIP:
            self.drip(b"220-wait\r\n")
        elif not self.stuck:
            transport.write(b"220 chaos ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Commands, or content."""
        self.waiting += data
        while not self.stuck and not self.transport.is_closing():
            mark = b"\r\n.\r\n" if self._in_data else b"\r\n"
            end = self.waiting.find(mark)
            if end < 0:
                return
            piece, self.waiting = self.waiting[:end], self.waiting[end + len(mark) :]
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        mode = self.receiver.mode
        if mode == HUNG:
            self.stick()
        elif mode == DRIP:
            self.drip(b"250-wait\r\n")
        elif mode == CUT and self._in_data:
            self.transport.close()
        elif mode == SLOW:
            # Equal delays keep the order.
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._answer, piece, self._in_data)
            self._in_data = not self._in_data and piece[:4].upper() == b"DATA"
        else:
            self._answer(piece, self._in_data)
            self._in_data = not self._in_data and piece[:4].upper() == b"DATA" and mode not in (ERROR, BUSY)

    def _answer(self, piece: bytes, is_content: bool) -> None:
        mode, verb = self.receiver.mode, piece[:4].upper()
        if not self.is_heard():
            return
        if mode == ERROR and (is_content or verb in (b"MAIL", b"RCPT", b"DATA")):
            self.transport.write(b"451 4.3.0 something broke here\r\n")
        elif mode == BUSY and verb != b"QUIT":
            self.transport.write(b"421 4.7.0 come back later\r\n")
            self.transport.close()
        elif is_content:
            found = _MESSAGE_ID.search(piece)
            self.receiver.accept(found[1].decode() if found else "?", dedupe=False)
            self.transport.write(b"250 2.0.0 kept\r\n")
        else:
            self.transport.write(_REPLIES.get(verb, b"250 OK\r\n"))
            if verb == b"QUIT":
                self.transport.close()
