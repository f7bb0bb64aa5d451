"""How long POST /api/events takes to answer, on the idle service and while 100,000 other deliveries are under way.

Production shape. The posts come one after the other with short pauses, each an event for one person in-app; the others
are a third each email, webhook and in-app, and wait in the bulk lane when it begins.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench import api, backlogs, stats
from bench.service import Service
from bench.sinks import Sink

CHANNELS = ("webhook", "email", "in_app")


def main() -> None:
    """Print a line for each state, and their ratio."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--waiting", type=int, default=100_000, help="how many others are delivered")
    chosen = parser.parse_args()
    waiting, idle_posts = (300, 5) if chosen.short else (chosen.waiting, 500)
    stats.head(f"POST /api/events, idle and while {waiting} are delivered")
    stats.line("shape", "", "p50 ms", "p90 ms", "p99 ms", "most ms", "posts", "others/s")
    with Sink("smtp") as mail, Sink("http") as hook, Service("production", email_port=mail.port) as service:
        made = api.event(api.make_rule(service.api, "in_app"), api.make_people(service.api, 1))
        tenant_id = str(service.ask("SELECT id FROM tenants")[0][0])
        _post(service, made, 20)  # warms it up
        idle, _ = _post(service, made, idle_posts)
        _show("idle", idle, 0.0)
        _put(service, tenant_id, hook.port, waiting)
        busy, took = _post(service, made, 2, lambda: backlogs.left(service, tenant_id) > 0)
        _show("busy", busy, waiting / took)
        ratios = [f"x{stats.percentile(busy, part) / stats.percentile(idle, part):.1f}" for part in (0.5, 0.9, 0.99)]
        stats.line("production", "busy / idle", *ratios)
        service.wait_until_done()


def _put(service: Service, tenant_id: str, hook_port: int, waiting: int) -> None:
    addresses = {"webhook": f"http://127.0.0.1:{hook_port}/bulk", "email": "bulk@example.com", "in_app": "user-1"}
    for channel in CHANNELS:
        backlogs.put(service, tenant_id, "bulk", channel, addresses[channel], waiting // len(CHANNELS))


def _post(
    service: Service, made: object, least: int, goes_on: Callable[[], bool] = lambda: False
) -> tuple[list[float], float]:
    """At least so many posts, and as long as `goes_on`. Returns the milliseconds of each, and the seconds of all."""
    took: list[float] = []
    began = time.monotonic()
    while len(took) < least or goes_on():
        time.sleep(random.uniform(0.01, 0.05))
        at = time.monotonic()
        service.api.post("/api/events", made)
        took.append((time.monotonic() - at) * 1000)
    return took, time.monotonic() - began


def _show(name: str, took: list[float], others: float) -> None:
    figures = [f"{stats.percentile(took, part):.1f}" for part in (0.5, 0.9, 0.99, 1.0)]
    stats.line("production", name, *figures, len(took), f"{others:.0f}")


if __name__ == "__main__":
    main()
