"""What failures cost: half of all deliveries fail once and are tried again, against the same number that all go well.

webhook: events for 1,000 configurations, the first retry after a second. email: events for 1,000 people, retried after
30 seconds. What the service spends while it waits idly is taken off both. Circuit breakers are off: all goes to one
host, where enough failures come in a row by chance to have it left alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import api, stats
from bench.cpu import Usage
from bench.service import Service
from bench.sinks import Sink

CHANNELS = ("webhook", "email")
_QUICK = {"WEBHOOK_RETRY_DELAY": "1000", "WEBHOOK_MAX_RETRIES": "5", "BREAKER_FAILURES": "0"}


@dataclass(frozen=True)
class Numbers:
    """How much is measured."""

    size: int
    events: int
    rounds: int
    idle_s: float


FULL = Numbers(size=1000, events=5, rounds=3, idle_s=6.0)
SHORT = Numbers(size=12, events=1, rounds=1, idle_s=0.5)


def main() -> None:
    """Print the lines of both shapes, or of one."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--channel", choices=CHANNELS, action="append", help="only this channel (default: all)")
    chosen = parser.parse_args()
    numbers = SHORT if chosen.short else FULL
    channels = chosen.channel or (("webhook",) if chosen.short else CHANNELS)
    stats.head(f"fanout of {numbers.size}, half of it failing once")
    stats.line("shape", "", "all well, µs", "half fails, µs", "ratio", "lo..hi", "", "by process, half failing")
    for shape in stats.shapes(chosen.shape):
        with (
            Sink("http") as receiver,
            Sink("smtp") as mail,
            Service(shape, email_port=mail.port, settings=_QUICK) as service,
        ):
            for channel in channels:
                sink = mail if channel == "email" else receiver
                measure(service, channel, sink, numbers)


def measure(service: Service, channel: str, sink: Sink, numbers: Numbers) -> None:
    """One channel: rounds without and with failures in turn, and a line for their medians."""
    fan_out = _prepare(service, channel, sink, numbers.size)
    fan_out()
    service.wait_until_done()
    time.sleep(numbers.idle_s)  # what the start and the first round have left to do
    idle = _idle(service, numbers.idle_s)
    well: list[Usage] = []
    failing: list[Usage] = []
    for _ in range(numbers.rounds):
        for used, fails in ((well, False), (failing, True)):
            sink.failing = fails
            used.append(_spend(service, fan_out, idle, numbers.events))
    sink.failing = False
    count = numbers.size * numbers.events
    _check(service, channel, count * numbers.rounds)
    each = [statistics.median(one.total for one in used) / count * 1e6 for used in (well, failing)]
    ratios = [bad.total / max(good.total, 1e-9) for good, bad in zip(well, failing, strict=True)]
    ratio = f"x{statistics.median(ratios):.2f}"
    by_process = stats.micros(stats.median_usage(failing), count)
    spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
    stats.line(service.shape, channel, f"{each[0]:.0f}", f"{each[1]:.0f}", ratio, spread, "", by_process)


def _prepare(service: Service, channel: str, sink: Sink, size: int) -> Callable[[], object]:
    if channel == "webhook":
        api.make_subscribers(service.api, sink.port, ["bench.webhook"], size)
        made = api.event("bench.webhook")
    else:
        made = api.event(api.make_rule(service.api, channel), api.make_people(service.api, size))
    return lambda: service.api.post("/api/events", made)


def _spend(service: Service, fan_out: Callable[[], object], idle: Usage, events: int) -> Usage:
    """CPU of so many events until the last result, without what the service would have used anyway."""
    before, began = service.usage(), time.monotonic()
    for _ in range(events):
        fan_out()
    service.wait_until_done()
    used, took = service.usage() - before, time.monotonic() - began
    return used - Usage({kind: a_second * took for kind, a_second in idle.seconds.items()})


def _idle(service: Service, seconds: float) -> Usage:
    """CPU a second while nothing happens."""
    before = service.usage()
    time.sleep(seconds)
    return Usage({kind: spent / seconds for kind, spent in (service.usage() - before).seconds.items()})


def _check(service: Service, channel: str, count: int) -> None:
    """All went well in the end, and half of those that should fail once did, or the figures mean nothing."""
    asked = f"SELECT status, tries, count(*) FROM notification_logs WHERE event_type = 'bench.{channel}'"
    found = {(status, tries): many for status, tries, many in service.ask(f"{asked} GROUP BY status, tries")}
    twice = sum(many for (_, tries), many in found.items() if tries == 2)
    if not {status for status, _ in found} <= {"sent", "delivered"} or twice != count // 2:
        raise RuntimeError(f"{channel}: not half of {count} failed once: {found}")


if __name__ == "__main__":
    main()
