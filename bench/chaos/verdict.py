"""Ledger, notes and database compared. A run is good when no line holds a fault.

The words are strict:

lost        a delivery that says sent or delivered and that no receiver took (in-app: no item), or one that had to
            arrive and did not
doubled     an acceptance more than one for a delivery
explained   a doubled one whose worker was killed after the receiver had accepted and before the result was committed:
            the try is the killed process's, its attempt was never completed by it, and it was accepted no longer before
            the kill than a flush and a commit took just then (`pulse.py` measures it). Or one whose sender had to give
            up at its timeout before it came to read the answer, on a machine as busy as that
two at once tries of one delivery that overlap in time, unless the first one's lease had ended before the second's claim
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from app.core.deliveries.outcome import BORN, MOVES
from app.core.deliveries.recorder import FLUSH_ROWS
from bench.chaos.evidence import Acceptance, Evidence, Try
from bench.chaos.expected import ARRIVED, Planning, wrong_end
from bench.chaos.history import Change, Found

FINAL = frozenset(MOVES) - {"pending", "sending"}


@dataclass
class Verdict:
    """The lines: {what: the faults found}. `explained` has a sentence for each doubled delivery that may be."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    doubled: int = 0
    explained: list[str] = field(default_factory=list)
    recognised: int = 0

    @property
    def good(self) -> bool:
        """Whether no line is off."""
        return not any(self.lines.values())


def judge(planning: Planning, found: Found, evidence: Evidence) -> Verdict:
    """Compare everything with everything."""
    made = Verdict()
    made.lines["planned exactly once"] = planning.faults
    made.lines["final"] = list(_unfinished(found))
    made.lines["lost"] = list(_lost(found, evidence))
    made.lines["doubled, unexplained"] = list(_doubled(made, found, evidence))
    made.lines["in two workers at once"] = list(_at_once(found, evidence))
    made.lines["attempts not on record"] = list(_unrecorded(found, evidence))
    made.lines["illegal changes of status"] = list(_illegal(found))
    return made


def _unfinished(found: Found) -> Iterator[str]:
    left = Counter(
        (row.channel, row.status, row.turn, row.losses) for row in found.deliveries.values() if row.status not in FINAL
    )
    for (channel, status, turn, losses), count in left.items():
        yield f"{count} of {channel} are {status}, turn {turn}, losses {losses}"


def _lost(found: Found, evidence: Evidence) -> Iterator[str]:
    for row in found.deliveries.values():
        if row.status not in FINAL:
            continue  # has a line of its own
        if fault := wrong_end(row):
            yield fault
        elif row.status in ARRIVED and not _taken(row, found, evidence):
            yield f"{row.channel} {row.id} is {row.status}, and nobody took it"


def _taken(row: Any, found: Found, evidence: Evidence) -> bool:
    return row.id in found.items if row.channel == "in_app" else bool(evidence.acceptances.get(row.id))


def _doubled(made: Verdict, found: Found, evidence: Evidence) -> Iterator[str]:
    by_batch: Counter[tuple[int, str]] = Counter()
    for taken in evidence.acceptances.values():
        if len(taken) == 1:
            continue
        made.doubled += len(taken) - 1
        made.recognised += sum(one.again for one in taken)
        reasons = [_explained(one, found, evidence) for one in taken]
        for one, reason in zip(taken, reasons, strict=True):
            if reason and (tried := evidence.try_of(one)):
                by_batch[tried.pid, one.receiver] += 1
                made.explained.append(f"{one.receiver} {one.id}: {reason}")
        if (bare := reasons.count(None)) > 1:
            yield f"{taken[0].receiver} {taken[0].id}: {len(taken)} acceptances, {bare} of them without an explanation"
    for (pid, receiver), count in by_batch.items():
        batches = _batches_under_way(pid, receiver, found, evidence)
        if count > FLUSH_ROWS * batches:
            yield f"process {pid}: {count} messages to {receiver} were doubled, {batches} batches were under way"


def _explained(taken: Acceptance, found: Found, evidence: Evidence) -> str | None:
    """Why an acceptance was followed by another, or why this may be; None: nothing explains it."""
    tried = evidence.try_of(taken)
    if tried is None:
        return None
    attempt = found.attempts[tried.id].get(tried.attempt)
    if attempt is None:
        return None
    if attempt.code == "timeout" and tried.ended_at is not None:
        late = tried.ended_at - taken.at
        if late <= evidence.writing_takes(tried.began_at, tried.ended_at):
            return f"the sender's time was over {late * 1000:.0f} ms after, attempt {tried.attempt} timed out"
    died_at = evidence.deaths.get(tried.pid)
    if attempt.outcome not in ("lost", None) or died_at is None:
        return None
    age = died_at - taken.at
    if age > evidence.writing_takes(taken.at, died_at):
        return None
    return f"process {tried.pid} was killed {age * 1000:.0f} ms after, attempt {tried.attempt} open"


def _batches_under_way(pid: int, receiver: str, found: Found, evidence: Evidence) -> int:
    """Claims made together have one time: so many batches had open tries when the process died."""
    channel = {"smtp": "email", "http": "webhook", "twilio": "sms"}[receiver]
    times = {
        round(change.at, 2)
        for tries in evidence.tries.values()
        for one in tries
        if one.pid == pid and one.ended_at is None and found.deliveries[one.id].channel == channel
        for change in _claims(found.changes[one.id], one.attempt)
    }
    return max(1, len(times))


def _claims(changes: list[Change], attempt: int) -> list[Change]:
    return [change for change in changes if change.status == "sending" and change.attempt == attempt]


def _at_once(found: Found, evidence: Evidence) -> Iterator[str]:
    for delivery_id, tries in evidence.tries.items():
        makers: dict[int, list[Try]] = defaultdict(list)
        for one in tries:
            makers[one.attempt].append(one)
        for attempt, made in makers.items():
            if len(made) > 1:
                yield f"{delivery_id}: attempt {attempt} was made by {[one.pid for one in made]}"
        ordered = sorted(tries, key=lambda one: one.began_at)
        for first, second in pairwise(ordered):
            until = _until(first, found, evidence)
            if (until is None or until > second.began_at) and not _lease_was_over(found, first, second):
                yield f"{delivery_id}: attempts {first.attempt} and {second.attempt} ran at the same time"


def _until(one: Try, found: Found, evidence: Evidence) -> float | None:
    """When a try was over; None: never. One that was drawn after its batch's deadline was given back unbegun."""
    attempt = found.attempts[one.id].get(one.attempt)
    if one.ended_at is None and attempt and attempt.outcome not in (None, "lost"):
        return float(attempt.finished_at)
    return evidence.until(one)


def _lease_was_over(found: Found, first: Try, second: Try) -> bool:
    claimed, again = (_claims(found.changes[one.id], one.attempt) for one in (first, second))
    until = claimed[0].lease_until if claimed else None
    return until is not None and bool(again) and again[0].at >= until


def _unrecorded(found: Found, evidence: Evidence) -> Iterator[str]:
    for delivery_id, number in found.doubled_attempts:
        yield f"{delivery_id}: attempt {number} is there twice"
    for row in found.deliveries.values():
        numbers = set(found.attempts.get(row.id, {}))
        if numbers != set(range(1, row.attempt + 1)):
            yield f"{row.id}: attempts {sorted(numbers)} of {row.attempt}"
        for number, attempt in found.attempts.get(row.id, {}).items():
            if attempt.outcome is None and row.status in FINAL and not _overtaken(row, found):
                yield f"{row.id}: attempt {number} was never completed"
    for delivery_id, taken in evidence.acceptances.items():
        for one in taken:
            tried = evidence.try_of(one)
            if tried is None or tried.attempt not in found.attempts.get(delivery_id, {}):
                yield f"{one.receiver} took {delivery_id}, of which there is no attempt"


def _overtaken(row: Any, found: Found) -> bool:
    """Its provider's report came while its worker was being killed: then there is nothing to take back."""
    last = found.changes[row.id][-1]
    return last.was == "sending" and last.status == "delivered" and row.channel == "sms"


def _illegal(found: Found) -> Iterator[str]:
    for delivery_id, changes in found.changes.items():
        was, attempt = None, 0
        for change in changes:
            legal = change.status in BORN if change.was is None else change.was in MOVES.get(change.status, ())  # type: ignore[call-overload]
            # What is sent at once is born claimed; in-app, which needs nobody outside, is born delivered.
            claims = change.status == "sending" or (change.was is None and change.status == "delivered")
            if change.was != was or not legal or change.attempt != attempt + claims:
                yield f"{delivery_id}: {change.was} (attempt {attempt}) -> {change.status} (attempt {change.attempt})"
            was, attempt = change.status, change.attempt
