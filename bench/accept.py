"""Events accepted through HTTP with the row committed, against a bare server that inserts one row per request.

Production runs without a worker: only accepting is measured. Embedded, the same process also plans every event, which
is part of its figure. The load has a process of its own, on the same cores.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import api, cpu, load, stats
from bench.bare_store import BareStore
from bench.service import KEY, Service
from tests.servers.process import ServerProcess, free_port, make_folder

_ROOT = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class Numbers:
    """How much is measured."""

    rounds: int
    requests: int
    connections: int
    batches: int
    batch: int


FULL = Numbers(rounds=5, requests=2000, connections=8, batches=50, batch=100)
SHORT = Numbers(rounds=1, requests=8, connections=2, batches=2, batch=3)


def main() -> None:
    """Print the lines of both shapes, or of one."""
    chosen = stats.parser(__doc__ or "").parse_args()
    numbers = SHORT if chosen.short else FULL
    stats.head("accept")
    stats.line("shape", "", "events/s", "CPU µs/event", "ratio", "", "by process")
    for shape in stats.shapes(chosen.shape):
        measure(shape, numbers)


def measure(shape: str, numbers: Numbers) -> None:
    """One shape: the bare server, events one by one, and events in batches."""
    with Service(shape, worker=shape == "embedded") as service, bare_server(service) as (address, roots):
        one = api.event("bench.nobody")
        batch = {"events": [one] * numbers.batch}
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

        def request(path: str, body: object) -> bytes:
            return load.raw_post("127.0.0.1", path, json.dumps(body).encode(), headers)

        bare = _Runner(shape, "bare row", address, lambda: cpu.usage(roots, service.own), numbers.requests)
        single = _Runner(shape, "one by one", service.address, service.usage, numbers.requests)
        many = _Runner(
            shape, f"batches of {numbers.batch}", service.address, service.usage, numbers.batches, numbers.batch
        )
        for _ in range(numbers.rounds):
            bare.run(request("/bare", one), numbers.connections)
            single.run(request("/api/events", one), numbers.connections)
            many.run(request("/api/events/batch", batch), min(numbers.connections, 4))
            if shape == "embedded":
                service.wait_until_done()
        for runner in (bare, single, many):
            runner.show(bare)


class _Runner:
    """Runs one kind of load, round by round, and shows the median."""

    def __init__(
        self,
        shape: str,
        name: str,
        address: tuple[str, int],
        usage: Callable[[], cpu.Usage],
        requests: int,
        events_each: int = 1,
    ) -> None:
        self._shape, self._name, self._address, self._usage = shape, name, address, usage
        self._requests, self._each = requests, events_each
        self.rates: list[float] = []
        self.used: list[cpu.Usage] = []

    def run(self, request: bytes, connections: int) -> None:
        """One round, after a few requests that warm it up."""
        load.post_many(self._address, request, connections, connections)
        before = self._usage()
        seconds = load.post_many(self._address, request, self._requests, connections)
        self.used.append(self._usage() - before)
        self.rates.append(self._requests * self._each / seconds)

    def show(self, bare: _Runner) -> None:
        """One line, and how it compares with the bare server."""
        events = self._requests * self._each
        own, other = stats.median_usage(self.used), stats.median_usage(bare.used)
        each = own.total / events * 1e6
        ratio = each / (other.total / bare._requests * 1e6) if other.total else 0.0
        rate = sorted(self.rates)[len(self.rates) // 2]
        stats.line(
            self._shape, self._name, f"{rate:.0f}", f"{each:.0f}", f"x{ratio:.2f}", "", stats.micros(own, events)
        )


@contextlib.contextmanager
def bare_server(service: Service) -> Iterator[tuple[tuple[str, int], dict[str, int]]]:
    """The bare server beside the service: ((host, port), {kind: process id}). It has the same workers and threads."""
    target = service.bare_database
    store = BareStore(service.bare_owner)
    store.create()
    store.close()
    port = free_port()
    process = ServerProcess("bare", make_folder("bench"))
    workers = "1" if service.shape == "embedded" else "2"
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
    command += ["--workers", workers, "--threads", "8", "--keep-alive", "5", "--log-level", "warning"]
    command += ["--pythonpath", _ROOT, "--no-control-socket", "bench.bare_web:app"]
    process.start(command, {"PATH": "/usr/bin:/bin", "BENCH_BARE_DATABASE": target})
    probe = load.raw_post("127.0.0.1", "/bare", b"{}", {"Content-Type": "application/json"})

    def is_ready() -> bool:
        try:
            return load.post_many(("127.0.0.1", port), probe, 1, 1) > 0
        except RuntimeError:
            return False

    try:
        process.wait_until(is_ready)
        database = {kind: pid for kind, pid in service.roots.items() if kind == "postgres"}
        yield ("127.0.0.1", port), {"bare": process.pid, **database}
    finally:
        process.stop()


if __name__ == "__main__":
    main()
