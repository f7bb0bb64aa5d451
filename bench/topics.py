"""A large fan-out: one event to a topic of many people, planned in pages and sent. CPU, memory, what asking costs.

in_app, email: a rule with one action, for people who are saved (email to a local sink). planning: the same in-app
rule by a test key, whose deliveries are made and not sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from bench import api, stats
from bench.api import Api
from bench.service import Service
from bench.sinks import Sink

KINDS = ("planning", "in_app", "email")
FULL, SHORT = 100_000, 1_200
_LISTED = 10_000  # people put on a list in one request
_TOPIC = "everybody"
_SAY_SECONDS = 10.0


@dataclass(frozen=True)
class Run:
    """What one fan-out took. Times in seconds, memory in bytes."""

    planned: float
    done: float
    micros: float
    by_process: str
    resident: int
    proportional: int
    asking: float


def main() -> None:
    """Print the lines of both shapes, or of one."""
    parser = stats.parser(__doc__ or "")
    parser.add_argument("--people", type=int, help=f"how many are on the list (default {FULL})")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this (default: all)")
    chosen = parser.parse_args()
    people = chosen.people or (SHORT if chosen.short else FULL)
    stats.head(f"topic of {people}")
    stats.line(
        "shape", "", "planned, s", "done, s", "µs/delivery", "worker RSS", "PSS", "progress, ms", "", "by process"
    )
    for shape in stats.shapes(chosen.shape):
        with Sink("smtp") as mail, Service(shape, email_port=mail.port) as service:
            event_types = prepare(service, people)
            for kind in chosen.kind or KINDS:
                show(shape, kind, measure(service, kind, event_types, people))


def prepare(service: Service, people: int) -> dict[str, str]:
    """So many saved people, all on one list, and a rule for each channel. Returns {kind: event type}."""
    users = api.make_people(service.api, people)
    for start in range(0, people, _LISTED):
        service.api.put(f"/api/topics/{_TOPIC}/recipients", {"userIds": users[start : start + _LISTED]})
    made = {channel: api.make_rule(service.api, channel) for channel in ("in_app", "email")}
    service.wait_until_done()
    return made | {"planning": made["in_app"]}


def measure(service: Service, kind: str, event_types: Mapping[str, str], people: int) -> Run:
    """Post one event to all of them, and look on until each has what is theirs."""
    caller = service.api
    if kind == "planning":
        made = service.api.post("/api/api-keys", {"name": "planning", "kind": "test"})
        caller = Api(*service.address, made["key"])
    body = api.event(event_types[kind]) | {"topics": [_TOPIC], "priority": "bulk"}
    before, began = service.usage(), time.monotonic()
    event = caller.post("/api/events", body)["id"]
    planned, resident, proportional = watch(service, event, began)
    done, used = time.monotonic() - began, service.usage() - before
    asked = time.monotonic()
    found = service.api.get(f"/api/events/{event}")["progress"]
    asking = time.monotonic() - asked
    well = "skipped" if kind == "planning" else "sent"
    if not found["finished"] or found["planned"] != people or found[well] != people:
        raise RuntimeError(f"{kind}: not everybody has it once: {found}")
    each = used.total / people * 1e6
    return Run(planned, done, each, stats.micros(used, people), resident, proportional, asking)


def watch(service: Service, event: str, began: float) -> tuple[float, int, int]:
    """Until all is done: when planning had ended, in seconds, and the most memory that the workers took.

    It asks by a connection whose CPU does not count.
    """
    planned, resident, proportional, said = 0.0, 0, 0, began
    state = f"SELECT status = 'planned', cursor FROM event_logs WHERE id = '{event}'"
    while service.is_at_work():
        workers = service.memory().get("worker") or service.memory()["service"]
        resident, proportional = max(resident, workers[0]), max(proportional, workers[1])
        ((finished, come),) = service.ask(state)
        now = time.monotonic()
        if finished and not planned:
            planned = now - began
        if now - said > _SAY_SECONDS:
            said = now
            left = service.ask("SELECT count(*) FROM notification_logs WHERE status = 'pending'")[0][0]
            print(f"  {now - began:.0f} s: {come} people planned, {left} deliveries wait", flush=True)
        time.sleep(0.1)
    return planned or time.monotonic() - began, resident, proportional


def show(shape: str, kind: str, run: Run) -> None:
    """One line."""
    memory = (stats.mebibytes(run.resident), stats.mebibytes(run.proportional))
    times = (f"{run.planned:.1f}", f"{run.done:.1f}", f"{run.micros:.0f}")
    stats.line(shape, kind, *times, *memory, f"{run.asking * 1000:.0f}", "", run.by_process)


if __name__ == "__main__":
    main()
