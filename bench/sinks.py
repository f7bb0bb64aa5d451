"""Receivers that cost little, each in a process of its own: they say yes to everything and note when it came.

with Sink("http") as sink:   # or "smtp"
    ... send to sink.port ...
    sink.wait_for(100)
    sink.arrived(0)          # time.monotonic() of the first request or mail
    sink.failing = True      # from now on the first try of every second delivery is put off (503, 451)
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.sharedctypes import RawArray, RawValue
from types import TracebackType
from typing import Any, Self

MOST = 1_000_000  # of which the times are kept

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_REPLIES = {b"MAIL": b"250 OK\r\n", b"RCPT": b"250 OK\r\n", b"NOOP": b"250 OK\r\n", b"RSET": b"250 OK\r\n"}


class _Ledger:
    """How many came and when, in memory that two processes share. See Sink for `mark` and `delay_s`."""

    def __init__(self, mark: bytes, delay_s: float) -> None:
        self.mark = mark
        self.delay_s = delay_s
        self.count = RawValue("l", 0)
        self.times = RawArray("d", MOST)
        self.port = RawValue("i", 0)
        self.failing = RawValue("b", 0)
        self._seen: set[bytes] = set()  # only in the receiver's process

    def puts_off(self, content: bytes, id_header: bytes) -> bool:
        """Whether this is the first try of every second delivery, while such fail."""
        if not self.failing.value:
            return False
        known = content.lower().partition(id_header)[2].partition(b"\r\n")[0]
        if known in self._seen:
            return False
        self._seen.add(known)
        return len(self._seen) % 2 == 0

    def note(self, content: bytes) -> float:
        """Count what came, if it has the mark. Returns the seconds after which it is answered."""
        if self.mark and self.mark not in content:
            return self.delay_s
        if self.count.value < MOST:
            self.times[self.count.value] = time.monotonic()
        self.count.value += 1
        return 0.0 if self.mark else self.delay_s


class _Http(asyncio.Protocol):
    """Keeps connections, reads Content-Length bodies, answers 200."""

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self._waiting = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = self._waiting[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._waiting) < end + 4 + length:
                return
            content = self._waiting[: end + 4 + length]
            self._waiting = self._waiting[end + 4 + length :]
            if self._ledger.puts_off(content, b"\r\nwebhook-id:"):
                _answer(self._transport, _BUSY, 0.0)
            else:
                _answer(self._transport, _OK, self._ledger.note(content))


class _Smtp(asyncio.Protocol):
    """Takes every mail; pipelined commands are answered together."""

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self._waiting = b""
        self._in_data = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        replies = []
        while True:
            mark = b"\r\n.\r\n" if self._in_data else b"\r\n"
            end = self._waiting.find(mark)
            if end < 0:
                break
            line, self._waiting = self._waiting[:end], self._waiting[end + len(mark) :]
            if self._in_data:
                self._in_data = False
                if self._ledger.puts_off(line, b"\r\nmessage-id:"):
                    _answer(self._transport, b"451 4.3.0 later\r\n", 0.0)
                else:
                    _answer(self._transport, b"250 2.0.0 kept\r\n", self._ledger.note(line))
            else:
                replies.append(self._reply(line[:4].upper()))
        if replies:
            self._transport.write(b"".join(replies))

    def _reply(self, verb: bytes) -> bytes:
        if verb == b"EHLO":
            return b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
        if verb == b"DATA":
            self._in_data = True
            return b"354 go on\r\n"
        if verb == b"QUIT":
            return b"221 bye\r\n"
        return _REPLIES.get(verb, b"250 OK\r\n")


def _answer(transport: Any, reply: bytes, delay_s: float) -> None:
    if delay_s:
        asyncio.get_running_loop().call_later(delay_s, transport.write, reply)
    else:
        transport.write(reply)


_KINDS: dict[str, Any] = {"http": _Http, "smtp": _Smtp}


def _serve(kind: str, ledger: _Ledger) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _KINDS[kind](ledger), "127.0.0.1", 0, backlog=1024)
        ledger.port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(main())


class Sink:
    """See the module. `delay_s`: seconds before each answer. `mark`: count only what has it in it, and answer that at
    once."""

    def __init__(self, kind: str, *, delay_s: float = 0.0, mark: bytes = b"") -> None:
        self._ledger = _Ledger(mark, delay_s)
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_serve, args=(kind, self._ledger), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        while not self._ledger.port.value:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._ledger.port.value)

    @property
    def failing(self) -> bool:
        """Whether the first try of every second delivery is put off: 503, or 451 after the data. They do not count."""
        return bool(self._ledger.failing.value)

    @failing.setter
    def failing(self, on: bool) -> None:
        self._ledger.failing.value = on

    @property
    def count(self) -> int:
        """How many have come."""
        return int(self._ledger.count.value)

    def arrived(self, index: int) -> float:
        """When the request or mail `index` had come whole, by time.monotonic()."""
        return float(self._ledger.times[index])

    def wait_for(self, count: int, timeout_s: float = 180.0) -> None:
        """Until so many have come. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while self.count < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.count} of {count} came to the sink")
            time.sleep(0.001)
