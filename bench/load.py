"""Load from a process of its own: the same request again and again on k kept connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Mapping
from typing import Any


def raw_post(host: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole HTTP/1.1 request, ready to be written."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post_many(address: tuple[str, int], request: bytes, count: int, connections: int) -> float:
    """Post `request` so many times; answers the seconds it took. Raises RuntimeError when an answer is no 2xx."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_load, args=(address, request, count, connections, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        seconds, fault = ours.recv()
    finally:
        process.join()
    if fault:
        raise RuntimeError(fault)
    return float(seconds)


def _load(address: tuple[str, int], request: bytes, count: int, connections: int, pipe: Any) -> None:
    try:
        pipe.send((asyncio.run(_all(address, request, count, connections)), ""))
    except Exception as error:
        pipe.send((0.0, f"{type(error).__name__}: {error}"))


async def _all(address: tuple[str, int], request: bytes, count: int, connections: int) -> float:
    left = iter(range(count))
    began = time.monotonic()
    await asyncio.gather(*(_one_connection(address, request, left) for _ in range(connections)))
    return time.monotonic() - began


async def _one_connection(address: tuple[str, int], request: bytes, left: Any) -> None:
    reader, writer = await asyncio.open_connection(*address)
    for _ in left:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        if head[9:10] != b"2":
            raise RuntimeError(f"{head.splitlines()[0]!r} {body[:300]!r}")
        if b"connection: close" in head:
            writer.close()
            reader, writer = await asyncio.open_connection(*address)
    writer.close()
