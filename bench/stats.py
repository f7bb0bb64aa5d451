"""The command line that all benchmarks share, and how their lines look."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Sequence

from bench.cpu import Usage

SHAPES = ("embedded", "production")


def parser(about: str) -> argparse.ArgumentParser:
    """`--short` for numbers so small that they only show that it runs; `--shape` for one shape instead of both."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--short", action="store_true", help="tiny numbers: shows that it runs, measures nothing")
    made.add_argument("--shape", choices=SHAPES, help="only this shape (default: both)")
    return made


def shapes(chosen: str | None) -> Sequence[str]:
    """The shapes to measure."""
    return (chosen,) if chosen else SHAPES


def head(title: str) -> None:
    """Say what is measured, on what kind of machine, and how busy it was to begin with."""
    load = os.getloadavg()[0]
    version = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{title}: {os.cpu_count()} cores, {platform.machine()}, {version}, load {load:.1f} before", flush=True)


def line(*cells: object) -> None:
    """One line of the table: the first two cells name the thing, the others are its figures."""
    first, second, *rest = (str(cell) for cell in cells)
    print(f"{first:<11}{second:<26}" + "".join(f"{cell:>15}" for cell in rest), flush=True)


def micros(used: Usage, count: int) -> str:
    """Microseconds of CPU for each of `count`, by kind of process: `worker 310 + postgres 120`."""
    return " + ".join(f"{kind} {spent / count * 1e6:.0f}" for kind, spent in used.seconds.items())


def median_usage(rounds: Sequence[Usage]) -> Usage:
    """The median of each kind."""
    return Usage({kind: statistics.median(one.seconds[kind] for one in rounds) for kind in rounds[0].seconds})


def spread(values: Sequence[float]) -> str:
    """The lowest and highest, as a word on noise."""
    return f"{min(values):.0f}..{max(values):.0f}"


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def mebibytes(size: int) -> str:
    """Bytes as whole MB of 2**20."""
    return f"{size / 2**20:.0f} MB"
