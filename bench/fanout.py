"""CPU per delivery through the whole pipeline, from the event to the record, in a fan-out of 1,000.

in_app, email: one event for 1,000 known people, one rule with one action. webhook: one event for 1,000 configurations.
webhook-1: 1,000 events in one batch for one configuration. singles: the same events posted one by one on 8 connections,
so that accepting them is in the figure. Each is compared with a bare loop (bare_loop.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import api, bare_loop, load, stats
from bench.bare_store import BareStore
from bench.cpu import Usage
from bench.service import KEY, Service
from bench.sinks import Sink

# In this order: subscribers are loaded with every event.
CHANNELS = ("in_app", "email", "webhook-1", "singles", "webhook")
_CONNECTIONS = 8


@dataclass(frozen=True)
class Numbers:
    """How much is measured."""

    size: int
    events: int
    rounds: int


FULL = Numbers(size=1000, events=3, rounds=5)
SHORT = Numbers(size=12, events=1, rounds=1)


def main() -> None:
    """Print the lines of both shapes, or of one."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--channel", choices=CHANNELS, action="append", help="only this channel (default: all)")
    chosen = parser.parse_args()
    numbers = SHORT if chosen.short else FULL
    stats.head(f"fanout of {numbers.size}")
    stats.line("shape", "", "µs/delivery", "lo..hi", "deliveries/s", "bare loop", "ratio", "", "by process")
    for shape in stats.shapes(chosen.shape):
        with Sink("http") as receiver, Sink("smtp") as mail, Service(shape, email_port=mail.port) as service:
            store = BareStore(service.bare_owner)
            store.create()
            store.close()
            users = api.make_people(service.api, numbers.size)
            service.wait_until_done()
            for channel in chosen.channel or CHANNELS:
                port = mail.port if channel == "email" else receiver.port
                measure(service, channel, users, port, numbers)
            show_idle(service, 1.0 if chosen.short else 6.0)


def measure(service: Service, channel: str, users: list[str], port: int, numbers: Numbers) -> None:
    """One channel: some rounds through the service, the same through the bare loop, and a line for their medians."""
    fan_out = _ROADS[channel](service, users, port, numbers.size)
    fan_out()
    service.wait_until_done()
    used: list[Usage] = []
    rates: list[float] = []
    for _ in range(numbers.rounds):
        before, began = service.usage(), time.monotonic()
        for _ in range(numbers.events):
            fan_out()
            service.wait_until_done()
        rates.append(numbers.size * numbers.events / (time.monotonic() - began))
        used.append(service.usage() - before)
    _check(service, channel, numbers)
    bare = bare_loop.run(channel, service.bare_database, port, numbers.size * numbers.events, numbers.rounds)
    _show(service.shape, channel, used, bare, rates, numbers.size * numbers.events)


def _show(shape: str, channel: str, used: list[Usage], bare: list[Usage], rates: list[float], count: int) -> None:
    own, other = stats.median_usage(used), stats.median_usage(bare)
    each, least = own.total / count * 1e6, other.total / count * 1e6
    ratio = f"x{each / least:.1f}" if least else "-"
    spread = stats.spread([one.total / count * 1e6 for one in used])
    rate = sorted(rates)[len(rates) // 2]
    stats.line(
        shape, channel, f"{each:.0f}", spread, f"{rate:.0f}", f"{least:.0f}", ratio, "", stats.micros(own, count)
    )


def _check(service: Service, channel: str, numbers: Numbers) -> None:
    """All of them must have gone well, or the figure means nothing."""
    found = service.outcomes(f"bench.{channel}")
    expected = numbers.size * (numbers.events * numbers.rounds + 1)
    well = found.get("sent", 0) + found.get("delivered", 0)
    if well != expected:
        raise RuntimeError(f"{channel}: {well} of {expected} deliveries went well: {found}")


def _of_people(channel: str) -> Callable[[Service, list[str], int, int], Callable[[], None]]:
    def prepare(service: Service, users: list[str], _port: int, _size: int) -> Callable[[], None]:
        made = api.event(api.make_rule(service.api, channel), users)
        return lambda: service.api.post("/api/events", made)

    return prepare


def _of_subscribers(service: Service, _users: list[str], port: int, size: int) -> Callable[[], None]:
    known = int(service.ask("SELECT count(*) FROM webhook_configurations")[0][0])  # webhook-1's: a tenant has 1,000
    api.make_subscribers(service.api, port, ["bench.webhook"], size - known)
    made = api.event("bench.webhook")
    return lambda: service.api.post("/api/events", made)


def _of_events(service: Service, _users: list[str], port: int, size: int) -> Callable[[], None]:
    api.make_subscribers(service.api, port, ["bench.webhook-1", "bench.webhook"], 1)
    made = {"events": [api.event("bench.webhook-1")] * size}
    return lambda: service.api.post("/api/events/batch", made)


def _of_single_events(service: Service, _users: list[str], port: int, size: int) -> Callable[[], None]:
    api.make_subscribers(service.api, port, ["bench.singles", "bench.webhook"], 1)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    made = load.raw_post("127.0.0.1", "/api/events", json.dumps(api.event("bench.singles")).encode(), headers)

    def fan_out() -> None:
        load.post_many(service.address, made, size, min(size, _CONNECTIONS))

    return fan_out


_ROADS = {
    "in_app": _of_people("in_app"),
    "email": _of_people("email"),
    "webhook": _of_subscribers,
    "webhook-1": _of_events,
    "singles": _of_single_events,
}


def show_idle(service: Service, seconds: float) -> None:
    """What the service uses while nothing happens, which is part of all the figures above."""
    before = service.usage()
    time.sleep(seconds)
    idle = service.usage() - before
    each = " + ".join(f"{kind} {spent / seconds * 1000:.1f}" for kind, spent in idle.seconds.items())
    stats.line(service.shape, "idle, ms of CPU a second", f"{idle.total / seconds * 1000:.1f}", *[""] * 5, each)


if __name__ == "__main__":
    main()
