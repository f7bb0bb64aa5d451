"""The unavoidable work of a fan-out, and nothing else: insert rows, render, send, write the results; in batches of 100.

It renders with the service's own templates, so that the ratio speaks of the pipeline. It decides nothing, retries
nothing, keeps no attempts, and would lose or double messages at a crash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import multiprocessing
import resource
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import pycurl

from app.core.templating import CompiledMessage, compile_message
from app.ids import new_id
from bench.api import DATA, TEMPLATES
from bench.bare_store import BareStore, json_text
from bench.cpu import Usage, usage

BATCH = 100
_SECRET = b"a secret of thirty-two bytes, so"


def run(channel: str, target: str, port: int, count: int, rounds: int) -> list[Usage]:
    """CPU of each round of `count` deliveries on a channel, of the loop and its database. It has its own process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, channel, target, port, count, rounds), daemon=True)
    process.start()
    theirs.close()
    try:
        return list(ours.recv())
    finally:
        process.join()


def _run(pipe: Any, channel: str, target: str, port: int, count: int, rounds: int) -> None:
    store = BareStore(target)
    send = _SENDERS[channel](port)
    _fan_out(store, channel, send, BATCH)  # warms up
    used = []
    for _ in range(rounds):
        before = _spent(store)
        _fan_out(store, channel, send, count)
        used.append(_spent(store) - before)
    store.close()
    pipe.send(used)


def _spent(store: BareStore) -> Usage:
    own = resource.getrusage(resource.RUSAGE_SELF)
    spent = Usage({"loop": own.ru_utime + own.ru_stime})
    if store.backend:
        spent.seconds |= usage({"postgres": store.backend}).seconds
    return spent


def _fan_out(store: BareStore, channel: str, send: Callable[[list[dict[str, str]]], None], count: int) -> None:
    message = compile_message(channel, TEMPLATES[channel], {}) if channel in TEMPLATES else None
    for start in range(0, count, BATCH):
        rows = [_row(channel, message, n) for n in range(start, min(count, start + BATCH))]
        store.insert(rows)
        send(rows)
        store.finish([{"id": row["id"], "result": "250 ok"} for row in rows])


def _row(channel: str, message: CompiledMessage | None, n: int) -> dict[str, str]:
    address = f"person-{n}@example.com"
    if message is None:
        return {"id": new_id(), "address": address, "data": json_text({"type": "bench." + channel, "data": DATA})}
    person = {"userId": f"user-{n}", "name": f"Person {n}", "email": address}
    parts = message.render({"data": DATA, "recipient": person})
    return {"id": new_id(), "address": address, "data": json.dumps(parts)}


def _nothing(_port: int) -> Callable[[list[dict[str, str]]], None]:
    return lambda _rows: None


def _mailer(port: int) -> Callable[[list[dict[str, str]]], None]:
    """One kept connection; each mail in two writes, its commands pipelined."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    replies = connection.makefile("rb")

    def expect(lines: int) -> None:
        for _ in range(lines):
            if not replies.readline():
                raise ConnectionError("the sink hung up")

    expect(1)
    connection.sendall(b"EHLO bare\r\n")
    expect(4)

    def send(rows: Sequence[dict[str, str]]) -> None:
        for row in rows:
            connection.sendall(f"MAIL FROM:<a@example.com>\r\nRCPT TO:<{row['address']}>\r\nDATA\r\n".encode())
            expect(3)
            connection.sendall(_mail(row))
            expect(1)

    return send


def _mail(row: dict[str, str]) -> bytes:
    parts = json.loads(row["data"])
    head = (
        f"From: a@example.com\r\nTo: {row['address']}\r\nSubject: {parts['subject']}\r\nMessage-ID: <{row['id']}@a>\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="=_b"\r\n\r\n'
    )
    text, html = (parts[name].replace("\n", "\r\n") for name in ("text", "html"))
    body = (
        f"--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        f"--=_b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--=_b--\r\n.\r\n"
    )
    return (head + body).encode()


def _poster(port: int) -> Callable[[list[dict[str, str]]], None]:
    """CurlMulti, 32 at a time, kept connections, each body signed."""
    multi = pycurl.CurlMulti()
    handles = [_handle() for _ in range(32)]

    def send(rows: Sequence[dict[str, str]]) -> None:
        waiting, idle = list(rows), list(handles)
        while waiting or len(idle) < len(handles):
            while waiting and idle:
                handle = idle.pop()
                _aim(handle, port, waiting.pop())
                multi.add_handle(handle)
            multi.perform()
            multi.select(1.0)
            _, done, failed = multi.info_read()
            if failed:
                raise ConnectionError(str(failed))
            for handle in done:
                multi.remove_handle(handle)
                idle.append(handle)

    return send


def _handle() -> Any:
    handle = pycurl.Curl()
    handle.setopt(pycurl.POST, 1)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.TIMEOUT_MS, 15_000)
    handle.setopt(pycurl.WRITEFUNCTION, len)
    return handle


def _aim(handle: Any, port: int, row: dict[str, str]) -> None:
    body, when = row["data"].encode(), str(int(time.time()))
    mac = hmac.new(_SECRET, f"{row['id']}.{when}.".encode() + body, hashlib.sha256).digest()
    handle.setopt(pycurl.URL, f"http://127.0.0.1:{port}/hook")
    handle.setopt(pycurl.POSTFIELDS, body)
    signed = [f"webhook-id: {row['id']}", f"webhook-timestamp: {when}"]
    signed.append("webhook-signature: v1," + base64.b64encode(mac).decode())
    handle.setopt(pycurl.HTTPHEADER, ["content-type: application/json", *signed])


_SENDERS: dict[str, Callable[[int], Callable[[list[dict[str, str]]], None]]] = {
    "in_app": _nothing,
    "email": _mailer,
    "webhook": _poster,
    "webhook-1": _poster,
    "singles": _poster,
}
