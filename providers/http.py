"""The one client for every URL that somebody else typed in.

Many exchanges at a time in one thread (curl's multi interface over epoll), a total deadline for each, caps on what is
read, no redirects, no cookies, no proxy, no decompression. The address is judged in the callback that opens the
socket: the very one that is dialled, however the name was spelled and whatever it resolved to before.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import certifi
import pycurl

from providers.guard import BlockedAddress, Guard, Resolver, Target, check_url, parse_url, resolve
from providers.http_transfer import HttpFault, Request, Response, Transfer, fault
from providers.names import Answer, Names

__all__ = ["BlockedAddress", "HttpClient", "HttpFault", "Request", "Response", "check_url"]

Outcome = tuple[Request, Response | HttpFault]

_IDLE_CONNECTIONS = 64  # kept by each engine


class HttpClient:
    """Safe for any number of threads; connections are kept from one call to the next.

    `allow`: networks (CIDR) admitted besides the public internet. `timeout_ms`: for one exchange, all in all.
    `max_parallel`: exchanges at a time in one call of `perform`. `resolver`: how names become addresses.
    `ca_file`: certificates to trust instead of the usual ones. User-Agent and Accept are the client's to send.
    """

    def __init__(
        self,
        *,
        allow: Sequence[str] = (),
        timeout_ms: int = 15_000,
        max_parallel: int = 64,
        user_agent: str = "Tidings",
        resolver: Resolver = resolve,
        ca_file: str | None = None,
    ) -> None:
        self.guard = Guard(allow)
        self.timeout_ms = timeout_ms
        self.max_parallel = max_parallel
        self.names = Names(resolver)
        self.user_agent = user_agent
        self.ca_file = ca_file or certifi.where()
        # curl would ask the receiver's leave before a large body, and wait a second for the answer.
        self.fixed_headers = [b"User-Agent: " + user_agent.encode(), b"Expect:", b"Accept: */*"]
        self._lock = threading.Lock()
        self._idle: list[_Engine] = []
        self._closed = False

    def perform(self, requests: Iterable[Request], deadline: float = float("inf")) -> Iterator[Outcome]:
        """Do them all, many at a time, and yield each with its answer or fault as it comes.

        `requests` is drawn from lazily, as slots become free. After `deadline` (time.monotonic()) none is begun;
        those under way end by their own timeouts.
        """
        engine = self._take()
        try:
            yield from engine.run(iter(requests), deadline)
        except GeneratorExit:
            engine.abandon()
            self._give_back(engine)
            raise
        except BaseException:
            engine.close()
            raise
        self._give_back(engine)

    def one(self, request: Request) -> Response:
        """Do one and wait for it. Raises HttpFault."""
        for _request, outcome in self.perform([request]):
            if isinstance(outcome, HttpFault):
                raise outcome
            return outcome
        raise AssertionError("perform answers every request")

    def close(self) -> None:
        """Close kept connections. Calls under way end first; calling it twice is harmless."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for engine in idle:
            engine.close()

    def _take(self) -> _Engine:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Engine(self)

    def _give_back(self, engine: _Engine) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(engine)
                return
        engine.close()


class _Engine:
    """One curl multi handle, its event loop, and its handles. One thread at a time."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, _IDLE_CONNECTIONS)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._timer: float | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._free: list[Transfer] = []
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._resolving: dict[Transfer, tuple[Target, list[bytes]]] = {}
        self._resolved: deque[tuple[Transfer, Request, Answer]] = deque()

    def run(self, requests: Iterator[Request], deadline: float) -> Iterator[Outcome]:
        more = True
        while more or self._running or self._resolving:
            while more and len(self._running) + len(self._resolving) < self._client.max_parallel:
                request = next(requests, None) if time.monotonic() < deadline else None
                if request is None:
                    more = False
                elif (refused := self._begin(request)) is not None:
                    yield request, refused
            yield from self._start_resolved()
            if self._running or self._resolving:
                self._pump()
                yield from self._finished()
                yield from self._late_names()

    def abandon(self) -> None:
        """Drop what is still under way: the caller has stopped listening."""
        for transfer in self._running.values():
            self._multi.remove_handle(transfer.curl)
            transfer.close()
        self._running.clear()
        self._resolving.clear()

    def close(self) -> None:
        self.abandon()
        for transfer in self._free:
            transfer.close()
        self._free.clear()
        with self._lock:
            self._closed = True
            self._multi.close()
            self._epoll.close()
            os.close(self._wake)

    def _begin(self, request: Request) -> HttpFault | None:
        try:
            target = parse_url(request.url)
        except ValueError as error:
            return HttpFault("invalid_url", str(error))
        headers = _header_lines(request.headers)
        if headers is None:
            return fault("invalid_header")
        headers += self._client.fixed_headers
        transfer = self._free.pop() if self._free else Transfer(self._client.guard, self._client.ca_file)
        transfer.request, transfer.began, transfer.dns_ms = request, time.monotonic(), 0.0
        if target.literal:
            return self._start(transfer, target, (target.host,), headers)
        known = self._client.names.recall(target.host, target.port)
        if known is not None:
            return self._start(transfer, target, known, headers)
        self._resolving[transfer] = (target, headers)
        self._client.names.look_up(target.host, target.port, lambda answer: self._heard(transfer, request, answer))
        return None

    def _heard(self, transfer: Transfer, request: Request, answer: Answer) -> None:
        """From any thread: a name has its answer."""
        with self._lock:
            # Once closed, the number of our descriptor may be somebody else's.
            if not self._closed:
                self._resolved.append((transfer, request, answer))
                os.eventfd_write(self._wake, 1)

    def _start_resolved(self) -> Iterator[Outcome]:
        while self._resolved:
            transfer, request, answer = self._resolved.popleft()
            if transfer.request is not request or transfer not in self._resolving:
                continue  # it was given up, and its handle may already serve another
            target, headers = self._resolving.pop(transfer)
            transfer.dns_ms = (time.monotonic() - transfer.began) * 1000
            if (refused := self._start(transfer, target, answer, headers)) is not None:
                yield request, refused

    def _start(
        self, transfer: Transfer, target: Target, addresses: Sequence[str], headers: list[bytes]
    ) -> HttpFault | None:
        if not addresses or not all(self._client.guard.admits(address) for address in addresses):
            self._free.append(transfer)
            return fault("blocked_address" if addresses else "dns_error")
        left = self._timeout_ms(transfer) - (time.monotonic() - transfer.began) * 1000
        transfer.prepare(target, () if target.literal else addresses, headers, int(left))
        self._running[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)
        return None

    def _late_names(self) -> Iterator[Outcome]:
        now = time.monotonic()
        for transfer in [t for t in self._resolving if now - t.began >= self._timeout_ms(t) / 1000]:
            del self._resolving[transfer]
            self._free.append(transfer)
            yield transfer.request, fault("timeout")

    def _timeout_ms(self, transfer: Transfer) -> int:
        return transfer.request.timeout_ms or self._client.timeout_ms

    def _pump(self) -> None:
        """Wait until something can move, and move it."""
        for fd, events in self._epoll.poll(self._patience()):
            if fd == self._wake:
                os.eventfd_read(self._wake)
                continue
            mask = 0
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                mask |= pycurl.CSELECT_IN
            if events & select.EPOLLOUT:
                mask |= pycurl.CSELECT_OUT
            self._multi.socket_action(fd, mask)
        if self._timer is not None and self._timer <= time.monotonic():
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _patience(self) -> float:
        """Seconds until the next timer of curl's or the next name that is late."""
        if self._resolved:
            return 0.0
        now = time.monotonic()
        times = [t.began + self._timeout_ms(t) / 1000 for t in self._resolving]
        if self._timer is not None:
            times.append(self._timer)
        return max(0.0, min(times, default=now + 1.0) - now)

    def _finished(self) -> Iterator[Outcome]:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl, code in [(curl, 0) for curl in done] + [(curl, code) for curl, code, _text in failed]:
                transfer = self._running.pop(curl)
                self._multi.remove_handle(curl)
                request, outcome = transfer.request, transfer.result(code)
                self._free.append(transfer)
                yield request, outcome

    def _on_socket(self, what: int, fd: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            with suppress(OSError):  # a descriptor that was closed has left by itself
                self._epoll.unregister(fd)
            return
        events = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (select.EPOLLOUT if what & pycurl.POLL_OUT else 0)
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def _on_timer(self, timeout_ms: int) -> None:
        self._timer = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


def _header_lines(headers: Iterable[tuple[str, str]]) -> list[bytes] | None:
    """As curl takes them; None when one would break out of its line or is not Unicode."""
    lines = []
    for name, value in headers:
        line = f"{name}: {value}" if value else f"{name};"  # curl's way to say that it is empty
        if "\r" in line or "\n" in line or "\0" in line:
            return None
        try:
            lines.append(line.encode())
        except UnicodeEncodeError:
            return None
    return lines
