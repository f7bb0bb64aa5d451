"""An upper bound on the work of one evaluation, known before it begins.

The evaluator cannot be interrupted and holds the interpreter while it runs. Measured with cel 0.10: naming a root
copies it, and map and filter copy what they have gathered at every step, about 80 ns a value; that is one unit here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.core.conditions.shape import Shape

MAX_UNITS = 1_000_000
MAX_DEPTH = 64
_TEXT_PER_UNIT = 1_000  # characters copied or compared in the time of one value
_TEXT_PER_PATTERN = 64  # characters that a pattern goes through in the time of its own weight / 20


@dataclass(slots=True)
class Size:
    """How big some data is: values in all, characters in all, and the longest list or mapping. None: too deep."""

    values: int = 0
    text: int = 0
    longest: int = 0
    too_big: bool = False


def size_of(roots: Iterable[Any]) -> Size:
    """Measure JSON values without recursion. `too_big`: deeper than MAX_DEPTH or more values than ever allowed."""
    size = Size()
    level: list[Any] = list(roots)
    for _ in range(MAX_DEPTH):
        size.values += len(level)
        if size.values > MAX_UNITS or not level:
            break
        level = _next_level(level, size)
    size.too_big = bool(level)
    return size


def _next_level(level: list[Any], size: Size) -> list[Any]:
    below: list[Any] = []
    for value in level:
        if isinstance(value, str):
            size.text += len(value)
        elif isinstance(value, dict):
            size.longest = max(size.longest, len(value))
            size.text += sum(map(len, value))
            below.extend(value.values())
        elif isinstance(value, (list, tuple)):
            size.longest = max(size.longest, len(value))
            below.extend(value)
    return below


def units(shape: Shape, size: Size, length: int) -> float:
    """The most work that a condition of this shape and `length` (characters) can make of data of this size."""
    comprehensions = len(shape.comprehensions)
    stages = comprehensions + 1
    # Signs that enlarge values multiply from one comprehension to the next; spread evenly they do it most.
    growth = (max(0, shape.amplifiers - comprehensions) / stages + 1) ** stages
    values = (size.values + shape.commas + (size.text + length) / _TEXT_PER_UNIT) * growth
    steps = size.longest * growth + shape.commas + 1 if comprehensions else 1.0
    total = 0.0
    for depth in range(stages):
        rounds = steps**depth
        total += rounds * (shape.tokens[depth] + shape.root_mentions[depth] * values)
        total += rounds / steps * shape.variable_mentions[depth] * values
    for item in shape.comprehensions:
        if item.macro in ("map", "filter"):
            gathered = values * (steps if item.mentions_root else 1) + steps
            total += steps**item.depth * gathered
    for depth, weight in shape.patterns:
        total += steps**depth * weight * (1 + (size.text + length) * growth / _TEXT_PER_PATTERN / 20)
    return total
