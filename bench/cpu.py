"""CPU time and memory of process trees, read from /proc. Linux only."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Usage:
    """Seconds of CPU by kind of process. `a - b` is what was used from b to a."""

    seconds: dict[str, float] = field(default_factory=dict)

    def __sub__(self, other: Usage) -> Usage:
        return Usage({kind: spent - other.seconds.get(kind, 0.0) for kind, spent in self.seconds.items()})

    @property
    def total(self) -> float:
        """Of all kinds together."""
        return sum(self.seconds.values())


def usage(roots: Mapping[str, int], besides: Collection[int] = ()) -> Usage:
    """User and system time of each tree, {kind: process id of its root}, with the children that have ended.

    `besides`: processes that do not count, such as the database's end of a connection of our own.
    """
    children = _children()
    return Usage(
        {kind: sum(_seconds(p) for p in tree(root, children) if p not in besides) for kind, root in roots.items()}
    )


def memory(roots: Mapping[str, int]) -> dict[str, tuple[int, int, int]]:
    """{kind: (resident bytes summed, proportional bytes summed, processes)}.

    Proportional: pages that processes share are divided among them; 0 where the system does not let us see it.
    """
    children = _children()
    found = {}
    for kind, root in roots.items():
        pids = tree(root, children)
        found[kind] = (sum(map(_resident, pids)), sum(map(_proportional, pids)), len(pids))
    return found


def tree(root: int, children: Mapping[int, Sequence[int]] | None = None) -> list[int]:
    """A process and all that descend from it."""
    known = _children() if children is None else children
    pids = [root]
    for pid in pids:
        pids.extend(known.get(pid, ()))
    return pids


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            found[int(stat[1])].append(int(name))
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on (proc(5)'s third); nothing when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _seconds(pid: int) -> float:
    # utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    return sum(map(int, _stat(pid)[11:15])) * _TICK


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
