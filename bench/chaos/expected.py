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
    """Every event that got a 2xx is there once, is planned, and has its deliveries once each; nothing else is there."""
    comparison = _Comparison(found)
    for post in posts:
        comparison.judge(post)
    comparison.look_for_strangers()
    return comparison.made


class _Comparison:
    """What was posted beside what was found."""

    def __init__(self, found: Found) -> None:
        self.made = Planning()
        self._events: dict[int, list[Any]] = defaultdict(list)
        self._of_event: dict[str, list[Any]] = defaultdict(list)
        self._direct: dict[str, list[Any]] = defaultdict(list)
        self._met: set[str] = set()
        for event in found.events:
            if event.n is not None:
                self._events[event.n].append(event)
        for row in found.deliveries.values():
            if row.event_id:
                self._of_event[row.event_id].append(row)
            else:
                self._direct[row.address].append(row)

    def judge(self, post: Post) -> None:
        """Compare what one request asked for."""
        self.made.accepted += bool(post.acked_at)
        if isinstance(post.answer, tuple):
            self.made.faults.append(f"post {post.number} was refused: {post.answer}")
        ids: set[str] = set()
        for n, wanted in post.events.items():
            rows = self._events.get(n, [])
            ids |= self._once(post, f"event {n}", rows)
            for event in rows:
                self._judge_event(post, event, wanted)
        for address in post.addresses:
            rows = self._direct.get(address, [])
            ids |= self._once(post, f"direct send to {address}", rows)
            self._note_times(post, rows)
        if post.acked_at and (told := _ids(post.answer)) != ids:
            self.made.faults.append(f"post {post.number} was answered with {sorted(told)}, made was {sorted(ids)}")

    def look_for_strangers(self) -> None:
        """What is there and nobody has posted."""
        there = [row for rows in (*self._events.values(), *self._direct.values()) for row in rows]
        self.made.faults += [f"{row.id} was posted by nobody" for row in there if row.id not in self._met]

    def _once(self, post: Post, what: str, rows: Sequence[Any]) -> set[str]:
        """Once if it got its 2xx; at most once if it never did."""
        if len(rows) > 1 or (post.acked_at and len(rows) != 1):
            told = "202" if post.acked_at else "nothing"
            self.made.faults.append(f"{what}: {len(rows)} rows, answered {told}")
        ids = {row.id for row in rows}
        self._met |= ids
        return ids

    def _judge_event(self, post: Post, event: Any, wanted: Sequence[tuple[str, str]]) -> None:
        deliveries = self._of_event.get(event.id, [])
        self._note_times(post, deliveries)
        if event.status != "planned":
            said = f"event {event.n} is {event.status} ({event.error}) after {event.attempt} claims"
            self.made.faults.append(said)
        planned = Counter((row.channel, row.configuration_id or row.user_id) for row in deliveries)
        if planned != Counter(wanted):
            more, less = planned - Counter(wanted), Counter(wanted) - planned
            self.made.faults.append(f"event {event.n}: planned too much {dict(more)}, too little {dict(less)}")

    def _note_times(self, post: Post, rows: Sequence[Any]) -> None:
        """When each was answered for: of an event that was posted twice, the first time."""
        if post.acked_at:
            for row in rows:
                self.made.posted_at[row.id] = min(post.acked_at, self.made.posted_at.get(row.id, post.acked_at))


def _ids(answer: Any) -> set[str]:
    """The ids that a post was answered with: of an event, of a batch's events, of a direct send's deliveries."""
    return {item["id"] for item in answer.get("items") or answer.get("deliveries") or [answer]}


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
