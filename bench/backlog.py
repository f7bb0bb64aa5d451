"""What a claim costs while more and more deliveries wait, and with many finished ones in the table (production shape).

A claim is what a worker does before it renders: whose turn it is, and up to 100 of that tenant's deliveries with their
attempts written. `tenants`: the same number of deliveries, ten for each tenant. CPU is of client and PostgreSQL.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from sqlalchemy import text

from app import make_runtime
from app.config import Settings
from app.core.deliveries import claims, turns
from app.core.deliveries.gates import Room
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.db import narrow
from app.tenancy import Purpose, system, tenant
from bench import backlogs, cpu, stats
from bench.service import Service

SIZES, SHORT = (1_000, 10_000, 100_000, 1_000_000), (200,)
_LANE = Lane.BULK
_WHO = text("SELECT pg_backend_pid()")


def main() -> None:
    """Print one line for each size."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--rows", type=_sizes, default=SIZES, help="how many wait, as 1000,100000")
    parser.add_argument("--finished", type=int, default=1_000_000, help="how many were sent before")
    chosen = parser.parse_args()
    sizes, finished = (SHORT, 1_000) if chosen.short else (chosen.rows, chosen.finished)
    stats.head(f"claims of up to 100, {finished} finished deliveries in the table")
    stats.line("shape", "waiting", "µs a claim", "lo..hi", "CPU µs", "of PostgreSQL", "rows a claim", "slots µs")
    with Service("production", worker=False) as service:
        runtime = make_runtime(Settings(**service.worker_settings, email_host="127.0.0.1"))
        first = str(service.ask("SELECT id FROM tenants")[0][0])
        backlogs.put_finished(service, first, finished)
        for size in sizes:
            backlogs.put(service, first, _LANE, "email", "bulk@example.com", size)
            measure(service, runtime, str(size))
            _empty(service)
        tenants = backlogs.put_tenants(service, max(2, min(sizes[-1] // 10, 1_000)))
        for tenant_id in tenants:
            backlogs.put(service, tenant_id, _LANE, "email", "bulk@example.com", 10)
        measure(service, runtime, f"{10 * len(tenants)}, {len(tenants)} tenants")
        runtime.channels.close()
        runtime.bell.close()
        runtime.db.close()


def measure(service: Service, runtime: Runtime, name: str, most: int = 60) -> None:
    """Claim up to `most` times, and at most half of what waits."""
    service.run("ANALYZE notification_logs")
    took: list[float] = []
    rows = 0
    waiting = int(service.ask("SELECT count(*) FROM notification_logs WHERE status = 'pending'")[0][0])
    count = max(1, min(most, waiting // 200))
    for _ in range(3):
        claim(runtime)
    backend = {"postgres": _backend(runtime)}  # and not the vacuum that follows so many rows
    before, began = cpu.usage(backend), time.process_time()
    for _ in range(count):
        at = time.monotonic()
        rows += claim(runtime)
        took.append((time.monotonic() - at) * 1e6)
    ours, theirs = time.process_time() - began, (cpu.usage(backend) - before).total
    stats.line(
        "production",
        name,
        f"{statistics.median(took):.0f}",
        stats.spread(took),
        f"{(ours + theirs) / count * 1e6:.0f}",
        f"{theirs / count * 1e6:.0f}",
        f"{rows / count:.0f}",
        f"{_slots(runtime):.0f}",
    )


def claim(runtime: Runtime) -> int:
    """Claim one batch, and commit. Returns how many."""
    with Room(runtime, _LANE) as room, runtime.db.work(system(Purpose.CLAIM)) as session:
        turn = turns.take(session, runtime, _LANE, room)
        if turn is None:
            return 0
        narrow(session, tenant(turn.tenant_id))
        return len(claims.claim_these(session, turn.tenant_id, turn.ids, runtime.clock.now(), 600))


def _backend(runtime: Runtime) -> int:
    """The process of our one connection."""
    with runtime.db.work(system(Purpose.CLAIM)) as session:
        return int(session.execute(_WHO).scalar())


def _slots(runtime: Runtime) -> float:
    """Microseconds until it is known whose turn may be next."""
    took = []
    for _ in range(20):
        with runtime.db.work(system(Purpose.CLAIM)) as session:
            at = time.monotonic()
            claims.slots(session, _LANE, runtime.clock.now(), limit=8)
            took.append((time.monotonic() - at) * 1e6)
    return statistics.median(took)


def _empty(service: Service) -> None:
    """What is left of a size is taken away, and the table is as after a night."""
    for table in ("delivery_contents", "delivery_attempts"):
        service.run(f"TRUNCATE {table}")
    service.run("DELETE FROM notification_logs WHERE lane = 'bulk'")
    service.run("VACUUM notification_logs")


def _sizes(given: str) -> Sequence[int]:
    return tuple(int(size) for size in given.split(","))


if __name__ == "__main__":
    main()
