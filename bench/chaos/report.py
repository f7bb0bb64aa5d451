"""The table of a run."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from bench.chaos.evidence import Evidence
from bench.chaos.expected import Planning, is_poison
from bench.chaos.faults import Fault
from bench.chaos.history import Found
from bench.chaos.verdict import Verdict

_SHOWN = 10  # faults of a line


def recoveries(faults: Sequence[Fault], planning: Planning, found: Found) -> dict[str, list[float]]:
    """{kind: for each fault the seconds from its end until all that it may have touched was done}.

    It touches what was posted while it lasted and in the second before. What chaos poisoned does not count, its
    company does. Other faults go on meanwhile.
    """
    ends = [
        (planning.posted_at[row.id], found.changes[row.id][-1].at)
        for row in found.deliveries.values()
        if planning.posted_at.get(row.id) and not is_poison(row)
    ]
    made: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        over = fault.ended_at or fault.began_at
        done = [done for posted, done in ends if fault.began_at - 1 <= posted <= over]
        made[fault.kind].append(max(0.0, max(done, default=over) - over))
    return made


def show(faults: Sequence[Fault], planning: Planning, found: Found, evidence: Evidence, verdict: Verdict) -> None:
    """Print everything."""
    statuses: dict[str, int] = defaultdict(int)
    for row in found.deliveries.values():
        statuses[row.status] += 1
    kills = sum(len(fault.killed) for fault in faults)
    _line("posts answered 2xx", planning.accepted)
    _line("events", len(found.events))
    _line("deliveries", len(found.deliveries), ", ".join(f"{n} {status}" for status, n in sorted(statuses.items())))
    _line("attempts", sum(map(len, found.attempts.values())))
    _line("accepted by receivers", sum(map(len, evidence.acceptances.values())))
    _line("processes killed", len(evidence.deaths), f"{len(evidence.deaths) - kills} of them by poisoned rows")
    _line("outages", sum(fault.kind.startswith(("PostgreSQL", "Redis", "receiver")) for fault in faults))
    _line("lost", len(verdict.lines["lost"]))
    _line("doubled", verdict.doubled, f"{verdict.recognised} of them known by id to the receiver")
    _line("explained", len(verdict.explained))
    for said, count in Counter(verdict.explained).items():
        print(f"    {count:>3} {said}")
    _show_recoveries(recoveries(faults, planning, found))
    for line, faults_found in verdict.lines.items():
        print(f"{'FAULT' if faults_found else 'ok   '}  {line}: {len(faults_found)}")
        for said in faults_found[:_SHOWN]:
            print(f"         {said}")


def _show_recoveries(found: Mapping[str, Sequence[float]]) -> None:
    print(f"\n{'fault':<26}{'times':>6}{'recovered after: median':>26}{'worst':>9}")
    for kind, seconds in sorted(found.items()):
        print(f"{kind:<26}{len(seconds):>6}{statistics.median(seconds):>24.1f} s{max(seconds):>7.1f} s")
    print()


def _line(name: str, value: object, besides: str = "") -> None:
    print(f"{name:<26}{value!s:>8}  {besides}")
