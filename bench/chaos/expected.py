"""What must have come of what was posted: which deliveries, and which of them had to arrive."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.history import Found
from bench.chaos.poison import HANG, KILL, LATE
from bench.chaos.posts import NO_EMAIL, Post

ARRIVED = frozenset({"sent", "delivered"})


@dataclass
class Planning:
    """How events and direct sends compare with what was posted. Each list holds a sentence for each fault."""

    accepted: int = 0
    faults: list[str] = field(default_factory=list)
    posted_at: dict[str, float] = field(default_factory=dict)  # {delivery: when its post got its 2xx}


def compare(posts: Sequence[Post], found: Found) -> Planning:
    """Every event that got a 2xx is there once, is planned, and has its deliveries once each."""
    made = Planning()
    events, of_event, direct = _index(found)
    for post in posts:
        made.accepted += bool(post.acked_at)
        if isinstance(post.answer, tuple):
            made.faults.append(f"post {post.number} was refused: {post.answer}")
        for n, wanted in post.events.items():
            _compare_event(made, post, n, wanted, events.get(n, []), of_event)
        for address in post.addresses:
            rows = direct.get(address, [])
            _compare_count(made, post, f"direct send to {address}", len(rows))
            _note_times(made, post, rows)
    return made


def _index(found: Found) -> tuple[dict[int, list[Any]], dict[str, list[Any]], dict[str, list[Any]]]:
    events: dict[int, list[Any]] = defaultdict(list)
    of_event: dict[str, list[Any]] = defaultdict(list)
    direct: dict[str, list[Any]] = defaultdict(list)
    for event in found.events:
        if event.n is not None:
            events[event.n].append(event)
    for row in found.deliveries.values():
        if row.event_id:
            of_event[row.event_id].append(row)
        else:
            direct[row.address].append(row)
    return events, of_event, direct


def _note_times(made: Planning, post: Post, rows: Sequence[Any]) -> None:
    """When each was answered for: of an event that was posted twice, the first time."""
    if post.acked_at:
        for row in rows:
            made.posted_at[row.id] = min(post.acked_at, made.posted_at.get(row.id, post.acked_at))


def _compare_count(made: Planning, post: Post, what: str, count: int) -> None:
    """Once if it got its 2xx; at most once if it never did."""
    if count > 1 or (post.acked_at and count != 1):
        made.faults.append(f"{what}: {count} rows, answered {'202' if post.acked_at else 'nothing'}")


def _compare_event(
    made: Planning,
    post: Post,
    n: int,
    wanted: Sequence[tuple[str, str]],
    rows: Sequence[Any],
    of_event: dict[str, list[Any]],
) -> None:
    _compare_count(made, post, f"event {n}", len(rows))
    for event in rows:
        deliveries = of_event.get(event.id, [])
        _note_times(made, post, deliveries)
        if event.status != "planned":
            made.faults.append(f"event {n} is {event.status} ({event.error}) after {event.attempt} claims")
        planned = Counter((row.channel, row.configuration_id or row.user_id) for row in deliveries)
        if planned != Counter(wanted):
            more, less = planned - Counter(wanted), Counter(wanted) - planned
            made.faults.append(f"event {n}: planned too much {dict(more)}, too little {dict(less)}")


def is_poison(row: Any) -> bool:
    """Whether chaos made this delivery to break something."""
    return bool(row.channel == "email" and row.address.startswith((KILL, HANG, LATE)))


def wrong_end(row: Any) -> str | None:
    """What is wrong with how a delivery ended; None: it is as it has to be."""
    said = f"{row.channel} {row.id} to {row.address} is {row.status} ({row.reason}), losses {row.losses}"
    if row.channel == "email" and row.address.startswith((KILL, HANG)):
        return None if (row.status, row.reason) == ("failed", "worker_lost") else said
    if row.channel == "email" and row.event_id and row.user_id == NO_EMAIL:
        return None if row.status == "skipped" and row.reason.startswith("preference") else said
    return None if row.status in ARRIVED else said
