"""What processes and receivers noted, brought together: tries with their beginning and end, and acceptances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.core.deliveries.recorder import FLUSH_SECONDS
from bench.chaos.control import read_notes
from bench.chaos.faults import Fault
from bench.chaos.pulse import Pulse
from bench.chaos.world import RECEIVERS

UNWRITTEN_SECONDS = FLUSH_SECONDS + 0.2
_SLOWER_THAN_PULSE = 3  # a batch of results has more to write than a beat, in a process that has more to do


@dataclass
class Try:
    """One try of a delivery, as the process that made it noted it. `ended_at` is None when it never ended."""

    id: str
    attempt: int
    pid: int
    began_at: float
    ended_at: float | None = None


@dataclass(frozen=True)
class Acceptance:
    """A receiver took a message and said so. `again`: a receiver that dedupes by id knew it already."""

    id: str
    at: float
    receiver: str
    dedupe: bool
    again: bool


@dataclass
class Evidence:
    """`deaths`: when a process was killed. `pulse`: how busy the machine was, and when PostgreSQL was away."""

    tries: dict[str, list[Try]] = field(default_factory=lambda: defaultdict(list))
    acceptances: dict[str, list[Acceptance]] = field(default_factory=lambda: defaultdict(list))
    deaths: dict[int, float] = field(default_factory=dict)
    pulse: Pulse | None = None

    def try_of(self, taken: Acceptance) -> Try | None:
        """The try that a receiver accepted: the last that had begun by then."""
        before = [one for one in self.tries.get(taken.id, ()) if one.began_at <= taken.at]
        return max(before, key=lambda one: one.began_at, default=None)

    def writing_takes(self, since: float, until: float) -> float:
        """How many seconds a flush and a commit may have taken in this time, at most."""
        measured = self.pulse.longest(since, until) if self.pulse else 0.0
        return UNWRITTEN_SECONDS + _SLOWER_THAN_PULSE * measured

    def until(self, one: Try) -> float | None:
        """When a try was over for its process; None: it still goes on."""
        return one.ended_at if one.ended_at is not None else self.deaths.get(one.pid)


def collect(folder: Path, faults: Sequence[Fault], pulse: Pulse | None = None) -> Evidence:
    """Read the notes of a run."""
    found = Evidence(pulse=pulse)
    for fault in faults:
        found.deaths.update(dict.fromkeys(fault.killed, fault.began_at))
    _read_tries(found, read_notes(folder / "tries"))
    for receiver in RECEIVERS:
        for note in read_notes(folder / f"ledger-{receiver}"):
            taken = Acceptance(note["id"], note["at"], receiver, note["dedupe"], note["again"])
            found.acceptances[taken.id].append(taken)
    return found


def _read_tries(found: Evidence, notes: Iterable[Mapping[str, object]]) -> None:
    open_tries: dict[tuple[object, object, object], Try] = {}
    for note in notes:
        key = (note["id"], note["attempt"], note["pid"])
        at = float(str(note["at"]))
        if note["did"] == "begin":
            open_tries[key] = Try(str(note["id"]), int(str(note["attempt"])), int(str(note["pid"])), at)
            found.tries[str(note["id"])].append(open_tries[key])
        elif note["did"] == "end":
            open_tries[key].ended_at = at
        else:
            found.deaths[int(str(note["pid"]))] = at
