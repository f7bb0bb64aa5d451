"""Memory summed over the service's processes: after the start, after 10,000 and after 100,000 deliveries.

RSS counts pages that processes share once for each; PSS divides them. `own` is without PostgreSQL and Redis: the aims
are 150 MB of RSS embedded after the start, and 300 MB in production, web and worker together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench import api, stats
from bench.service import Service
from bench.sinks import Sink

FULL, SHORT = (10_000, 100_000), (24,)
_OWN = ("service", "web", "worker")


def main() -> None:
    """Print the lines of both shapes, or of one."""
    chosen = stats.parser(__doc__ or "").parse_args()
    steps = SHORT if chosen.short else FULL
    stats.head("memory")
    stats.line("shape", "", "RSS", "PSS", "own RSS", "own PSS", "", "by process: RSS (PSS, processes)")
    for shape in stats.shapes(chosen.shape):
        with Sink("http") as receiver, Sink("smtp") as mail, Service(shape, email_port=mail.port) as service:
            time.sleep(0.5 if chosen.short else 5.0)
            show(service, "after start")
            event_types = prepare(service, receiver.port)
            done = 0
            for deliveries in steps:
                work(service, event_types, deliveries - done)
                done = deliveries
                show(service, f"after {deliveries} deliveries")


def prepare(service: Service, port: int) -> tuple[str, str]:
    """Rules for email and in-app, whose event types are returned, and a subscriber."""
    api.make_subscribers(service.api, port, ["bench.webhook"], 1)
    return api.make_rule(service.api, "email"), api.make_rule(service.api, "in_app")


def work(service: Service, event_types: Sequence[str], deliveries: int) -> None:
    """A third each by email, webhook and in-app, in events for up to 500 people."""
    left = deliveries // 3
    people = api.make_people(service.api, min(500, left))
    while left > 0:
        some = people[:left]
        for event_type in event_types:
            service.api.post("/api/events", api.event(event_type, some))
        batch = [api.event("bench.webhook")] * len(some)
        service.api.post("/api/events/batch", {"events": batch})
        service.wait_until_done()
        left -= len(some)


def show(service: Service, when: str) -> None:
    """One line."""
    found = service.memory()
    summed = [sum(one[n] for one in found.values()) for n in (0, 1)]
    summed += [sum(one[n] for kind, one in found.items() if kind in _OWN) for n in (0, 1)]
    each = ", ".join(
        f"{kind} {stats.mebibytes(rss)} ({stats.mebibytes(pss)}, {count})" for kind, (rss, pss, count) in found.items()
    )
    stats.line(service.shape, when, *map(stats.mebibytes, summed), "", each)


if __name__ == "__main__":
    main()
