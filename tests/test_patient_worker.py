"""Clients that stall, against a real gunicorn: they hold no thread for long, and slow lines are served."""

from __future__ import annotations

import http.client
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.servers.process import ServerProcess, free_port, make_folder, start_with_retries

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
STALLED = 4
PATIENCE = 60.0  # of the tests' clients, with any one answer
STALLED_HEADS = 8  # of each kind: threads that waited ten seconds for each would be at it for longer than that

_APP = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    answer = b"%d bytes" % len(body)
    if environ["PATH_INFO"] == "/large":
        answer = b"x" * 40_000_000
    start_response("200 OK", [("Content-Length", str(len(answer))), ("Content-Type", "text/plain")])
    return [answer]
"""
_CONFIG = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from app.running.patient_worker import PatientWorker
worker_class = PatientWorker
"""


def _start() -> tuple[ServerProcess, int]:
    folder, port = make_folder("patient"), free_port()
    (folder / "served.py").write_text(_APP)
    (folder / "config.py").write_text(_CONFIG)
    server = ServerProcess("gunicorn", folder)
    options = ["--config", str(folder / "config.py"), "--bind", f"127.0.0.1:{port}", "--threads", str(THREADS)]
    options += ["--keep-alive", "5", "--pythonpath", str(folder), "--no-control-socket"]
    server.start([sys.executable, "-m", "gunicorn", *options, "served:app"])
    server.wait_until(lambda: _get(port) == b"0 bytes")
    return server, port


def _get(port: int, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server, found = start_with_retries(_start)
    yield found
    assert "Traceback" not in server.log()
    server.stop()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def _stalled(stack: ExitStack, port: int, said: bytes, count: int = STALLED) -> list[socket.socket]:
    found = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(count)]
    for one in found:
        one.sendall(said)
    return found


def _rest(one: socket.socket) -> bytes:
    said = b""
    while piece := one.recv(65_536):
        said += piece
    return said


def test_who_stops_inside_the_head_holds_nobody_up_and_is_closed(port: int, stack: ExitStack) -> None:
    heads = (b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    stalled = [one for said in heads for one in _stalled(stack, port, said, STALLED_HEADS)]

    assert _get(port) == b"0 bytes"
    _trickle(stalled.pop())
    assert {_rest(one) for one in stalled} == {b""}


def _trickle(one: socket.socket) -> None:
    """Go on with a head, a byte at a time, until the server has enough of it; that has to come."""
    one.settimeout(0.5)
    end = time.monotonic() + PATIENCE
    with suppress(ConnectionError):
        while time.monotonic() < end:
            one.sendall(b"a")
            with suppress(TimeoutError):
                if one.recv(1) == b"":
                    return
        raise AssertionError("a head that trickles is never closed")


def test_who_stops_inside_the_body_is_closed_and_the_others_are_served(port: int, stack: ExitStack) -> None:
    stalled = _stalled(stack, port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")

    assert _get(port) == b"0 bytes"
    for one in stalled:
        _rest(one)  # comes to its end: the server has closed it


def test_a_slow_body_that_moves_is_served(port: int, stack: ExitStack) -> None:
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
    one.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 30000\r\n\r\n")
    for _ in range(30):
        one.sendall(b"x" * 1000)
        time.sleep(0.4)  # the line is slow: 12 seconds for all

    assert _rest(one).endswith(b"30000 bytes")


def test_a_head_in_pieces_and_two_requests_at_once_are_served(port: int, stack: ExitStack) -> None:
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    for byte in request + request:
        one.sendall(bytes([byte]))
    one.sendall(request + request.replace(b"Host: a", b"Host: a\r\nConnection: close"))

    assert _rest(one).count(b"3 bytes") == 4


def test_who_is_told_to_go_and_stays_holds_nobody_up(port: int, stack: ExitStack) -> None:
    begun = time.monotonic()
    for _ in range(40):
        (one,) = _stalled(stack, port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1)
        assert _rest(one).endswith(b"0 bytes")

    assert _get(port) == b"0 bytes"
    assert time.monotonic() - begun < 40  # waiting for each, two seconds at a time, would take twice as long


def test_who_takes_nothing_of_the_answer_is_left(port: int, stack: ExitStack) -> None:
    _stalled(stack, port, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", THREADS)

    assert _get(port) == b"0 bytes"  # in the end, though every thread was writing


def test_a_head_that_is_too_long_is_refused(port: int, stack: ExitStack) -> None:
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
    one.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 70_000)

    try:
        answer = _rest(one)
    except ConnectionResetError:
        answer = b"HTTP/1.1 431"
    assert answer.startswith(b"HTTP/1.1 431")


def test_answers_are_whole_on_kept_connections(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for size in (0, 1, 200_000, 5_000_000, 3):
        connection.request("POST", "/", b"y" * size)
        assert connection.getresponse().read() == b"%d bytes" % size
    connection.close()
    assert len(_get(port, "/large")) == 40_000_000
