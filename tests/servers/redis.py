"""A private Redis for the tests."""

from __future__ import annotations

import signal

import redis

from tests.servers.process import ServerProcess, find_program, free_port, make_folder, start_with_retries

DATABASES = 256
"""How many numbered databases a server has: a test that takes one of its own needs no flush."""

_FAST = ("--save", "", "--appendonly", "no")
# What docs/operations recommends: at most a second is lost when the machine goes down.
_DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")


class RedisServer:
    """A running Redis; `url` is that of its database 0."""

    def __init__(self, process: ServerProcess, port: int) -> None:
        """Hold the server that `start_redis` has started on `port` of 127.0.0.1."""
        self.process = process
        self.port = port
        self.url = self.url_for(0)

    def url_for(self, number: int) -> str:
        """Return the URL of the database `number`, from 0 to DATABASES - 1."""
        if not 0 <= number < DATABASES:
            raise ValueError(f"a Redis database is numbered from 0 to {DATABASES - 1}, not {number}")
        return f"redis://127.0.0.1:{self.port}/{number}"

    def flush(self, number: int | None = None) -> None:
        """Empty the database `number`, or all of them."""
        with redis.Redis.from_url(self.url_for(number or 0)) as client:
            if number is None:
                client.flushall()
            else:
                client.flushdb()

    def stop(self) -> None:
        """Stop the server and remove its data."""
        self.process.stop(signal.SIGKILL)


def start_redis(durable: bool = False, port: int | None = None) -> RedisServer:
    """Start a private Redis; it ends with this process at the latest.

    `durable` keeps an append-only file on a disk. `port` is for a test in which Redis comes back where it was; without
    it a free one is found. Raises FileNotFoundError if Redis is not installed, StartError if it does not start.
    """
    program = find_program("redis-server")
    process = ServerProcess("redis", make_folder("redis", durable))
    try:
        return start_with_retries(lambda: _start(process, program, port or free_port(), durable))
    except BaseException:
        process.stop(signal.SIGKILL)
        raise


def _start(process: ServerProcess, program: str, port: int, durable: bool) -> RedisServer:
    server = RedisServer(process, port)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(process.folder)]
    command += ["--databases", str(DATABASES), *(_DURABLE if durable else _FAST)]
    process.start(command)

    def is_ready() -> bool:
        with redis.Redis.from_url(server.url, socket_timeout=2) as client:
            try:
                # Somebody else's Redis on the same port would answer too.
                return int(client.info("server")["process_id"]) == process.pid
            except redis.RedisError:
                return False

    process.wait_until(is_ready)
    return server
