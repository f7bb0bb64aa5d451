"""The table of a run."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.chaos.evidence import Evidence
from bench.chaos.expected import Planning, is_poison
from bench.chaos.faults import Fault
from bench.chaos.history import Found
from bench.chaos.verdict import Verdict

_SHOWN = 10  # faults of a line


@dataclass(frozen=True)
class Recovery:
    """Seconds from the end of a fault until something posted after it was done (None: nothing was), and until all that
    it may have touched was done: what was posted while it lasted and in the second before."""

    works_again: float | None
    all_done: float


def recoveries(faults: Sequence[Fault], planning: Planning, found: Found) -> dict[str, list[Recovery]]:
    """{kind: one for each fault}. What chaos poisoned does not count, its company does. Other faults go on besides."""
    ends = [
        (planning.posted_at[row.id], found.changes[row.id][-1].at)
        for row in found.deliveries.values()
        if planning.posted_at.get(row.id) and row.status != "skipped" and not is_poison(row)
    ]
    made: dict[str, list[Recovery]] = defaultdict(list)
    for fault in faults:
        over = fault.ended_at or fault.began_at
        touched = [done for posted, done in ends if fault.began_at - 1 <= posted <= over]
        after = min((done for posted, done in ends if done >= posted > over), default=None)
        all_done = max(0.0, max(touched, default=over) - over)
        made[fault.kind].append(Recovery(None if after is None else after - over, all_done))
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
    for said in verdict.explained:
        print(f"    {said}")
    _show_recoveries(recoveries(faults, planning, found))
    for line, faults_found in verdict.lines.items():
        print(f"{'FAULT' if faults_found else 'ok   '}  {line}: {len(faults_found)}")
        for said in faults_found[:_SHOWN]:
            print(f"         {said}")


def _show_recoveries(found: Mapping[str, Sequence[Recovery]]) -> None:
    print(f"\n{'':<32}{'works again after':>22}{'all of its time done after':>32}")
    print(f"{'fault':<26}{'times':>6}{'median':>12}{'worst':>10}{'median':>18}{'worst':>14}")
    for kind, made in sorted(found.items()):
        again = [one.works_again for one in made if one.works_again is not None] or [0.0]
        done = [one.all_done for one in made]
        print(
            f"{kind:<26}{len(made):>6}{statistics.median(again):>10.1f} s{max(again):>8.1f} s"
            f"{statistics.median(done):>16.1f} s{max(done):>12.1f} s"
        )
    print()


def _line(name: str, value: object, besides: str = "") -> None:
    print(f"{name:<26}{value!s:>8}  {besides}")
