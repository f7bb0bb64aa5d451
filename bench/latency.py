"""Event-to-wire latency of single events on the idle service.

From the moment before the POST is written to the moment when the receiver has the whole request or mail. `answer` is
how long the POST took: by then the event is committed, and the worker is on its way.
"""

from __future__ import annotations

import random
import time

from bench import api, stats
from bench.service import Service
from bench.sinks import Sink

FULL, SHORT = 300, 4


def main() -> None:
    """Print the lines of both shapes, or of one."""
    chosen = stats.parser(__doc__ or "").parse_args()
    events = SHORT if chosen.short else FULL
    stats.head(f"latency of {events} single events")
    stats.line("shape", "", "p50 ms", "p90 ms", "p99 ms", "answer p50", "wire / answer")
    for shape in stats.shapes(chosen.shape):
        with Sink("http") as receiver, Sink("smtp") as mail, Service(shape, email_port=mail.port) as service:
            person = api.make_people(service.api, 1)
            api.make_subscribers(service.api, receiver.port, ["bench.webhook"], 1)
            measure(service, "webhook", receiver, api.event("bench.webhook"), events)
            measure(service, "email", mail, api.event(api.make_rule(service.api, "email"), person), events)


def measure(service: Service, name: str, sink: Sink, event: object, count: int) -> None:
    """Post one event after the other, each when the one before is done and a little while has passed."""
    wire: list[float] = []
    answers: list[float] = []
    for number in range(-min(10, count), count):  # the first few warm it up
        service.wait_until_done()
        time.sleep(random.uniform(0.03, 0.08))
        seen, began = sink.count, time.monotonic()
        service.api.post("/api/events", event)
        answered = time.monotonic()
        sink.wait_for(seen + 1)
        if number >= 0:
            wire.append((sink.arrived(seen) - began) * 1000)
            answers.append((answered - began) * 1000)
    answer = stats.percentile(answers, 0.5)
    figures = [f"{stats.percentile(wire, part):.1f}" for part in (0.5, 0.9, 0.99)]
    stats.line(service.shape, name, *figures, f"{answer:.1f}", f"x{stats.percentile(wire, 0.5) / answer:.1f}")


if __name__ == "__main__":
    main()
