"""The story of each delivery that a verdict complains of, moment by moment, among the faults of its time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.chaos.evidence import Evidence
from bench.chaos.faults import Fault
from bench.chaos.history import Found
from bench.chaos.verdict import FINAL, Verdict

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNFINISHED = 5  # of which the stories are told


def write(path: Path, verdict: Verdict, faults: Sequence[Fault], found: Found, evidence: Evidence) -> None:
    """Write the stories of all that are complained of, and of a few that are unfinished."""
    told = [said for line in verdict.lines.values() for said in line]
    ids = dict.fromkeys(one for said in told for one in _ID.findall(said) if one in found.deliveries)
    unfinished = [row.id for row in found.deliveries.values() if row.status not in FINAL][:_UNFINISHED]
    start = min((fault.began_at for fault in faults), default=0.0)
    with path.open("w") as file:
        for said in told:
            file.write(f"{said}\n")
        for delivery_id in [*ids, *unfinished]:
            row = found.deliveries[delivery_id]
            file.write(f"\n{row}\n")
            for at, what in sorted(_moments(delivery_id, faults, found, evidence)):
                file.write(f"{at - start:9.3f}  {what}\n")


def _moments(
    delivery_id: str, faults: Sequence[Fault], found: Found, evidence: Evidence
) -> Iterator[tuple[float, str]]:
    for fault in faults:
        yield fault.began_at, f"    {fault.kind} begins {fault.killed or ''}"
        if fault.ended_at - fault.began_at > 0.1:
            yield fault.ended_at, f"    {fault.kind} ends"
    for pid, at in evidence.deaths.items():
        yield at, f"    process {pid} dies"
    for change in found.changes.get(delivery_id, ()):
        yield change.at, f"{change.was} -> {change.status}, attempt {change.attempt}"
    for one in evidence.tries.get(delivery_id, ()):
        yield one.began_at, f"attempt {one.attempt} begins in {one.pid}"
        if one.ended_at is not None:
            yield one.ended_at, f"attempt {one.attempt} ends in {one.pid}"
    for number, attempt in found.attempts.get(delivery_id, {}).items():
        yield attempt.finished_at or 9e9, f"attempt {number} is recorded: {attempt.outcome} {attempt.code}"
    for taken in evidence.acceptances.get(delivery_id, ()):
        yield taken.at, f"{taken.receiver} takes it"
