"""Memory summed over the service's processes: after the start, and after 10,000 deliveries.

RSS counts pages that processes share once for each; PSS divides them. The embedded aim (150 MB) is held against RSS.
"""

from __future__ import annotations

import time

from bench import api, stats
from bench.service import Service
from bench.sinks import Sink

FULL, SHORT = 10_000, 24


def main() -> None:
    """Print the lines of both shapes, or of one."""
    chosen = stats.parser(__doc__ or "").parse_args()
    deliveries = SHORT if chosen.short else FULL
    stats.head("memory")
    stats.line("shape", "", "RSS", "PSS", "", "by process: RSS (PSS, processes)")
    for shape in stats.shapes(chosen.shape):
        with Sink("http") as receiver, Sink("smtp") as mail, Service(shape, email_port=mail.port) as service:
            time.sleep(0.5 if chosen.short else 5.0)
            show(service, "after start")
            work(service, receiver.port, deliveries)
            show(service, f"after {deliveries} deliveries")


def work(service: Service, port: int, deliveries: int) -> None:
    """A third each by email, webhook and in-app, in events for up to 500 people."""
    people = api.make_people(service.api, min(500, deliveries // 3))
    email, in_app = api.make_rule(service.api, "email"), api.make_rule(service.api, "in_app")
    api.make_subscribers(service.api, port, ["bench.webhook"], 1)
    left = deliveries // 3
    while left > 0:
        some = people[:left]
        for event_type in (email, in_app):
            service.api.post("/api/events", api.event(event_type, some))
        batch = [api.event("bench.webhook")] * len(some)
        service.api.post("/api/events/batch", {"events": batch})
        service.wait_until_done()
        left -= len(some)


def show(service: Service, when: str) -> None:
    """One line."""
    found = service.memory()
    resident, proportional = (sum(one[n] for one in found.values()) for n in (0, 1))
    each = ", ".join(
        f"{kind} {stats.mebibytes(rss)} ({stats.mebibytes(pss)}, {count})" for kind, (rss, pss, count) in found.items()
    )
    stats.line(service.shape, when, stats.mebibytes(resident), stats.mebibytes(proportional), "", each)


if __name__ == "__main__":
    main()
