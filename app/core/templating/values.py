"""Plain JSON values as handlebars.js sees them.

Looked up by key or index only, printed and compared as JavaScript would.

Only dict, list, str, int, float, bool and None are known; any other object is refused, and no attribute is ever read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from .errors import RenderError

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_KNOWN = frozenset({dict, list, str, int, float, bool, type(None)})


def look_up(container: Any, name: str) -> Any:
    """`container[name]` for a mapping, list or text; None if there is no such thing."""
    kind = type(container)
    if kind is dict:
        return container.get(name)
    if kind is list:
        if _INDEX.fullmatch(name):
            return container[int(name)] if int(name) < len(container) else None
        return len(container) if name == "length" else None
    if kind is str:
        return _look_up_text(container, name)
    if kind not in _KNOWN:
        raise RenderError(f"A {kind.__name__} is not JSON data")
    return None


def _look_up_text(text: str, name: str) -> Any:
    """JavaScript counts UTF-16 units; half a character prints as U+FFFD."""
    if name == "length":
        return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
    if not _INDEX.fullmatch(name):
        return None
    units = text.encode("utf-16-le", "surrogatepass")
    unit = units[2 * int(name) : 2 * int(name) + 2]
    return unit.decode("utf-16-le", "replace") if unit else None


def truthy(value: Any) -> bool:
    """What `{{#if}}` means by true: not missing, false, 0, "", [] (an empty mapping is true)."""
    if value is None or value is False:
        return False
    kind = type(value)
    if kind is int or kind is float:
        return bool(value) and value == value
    return kind is dict or kind is bool or len(value) > 0 if kind in _KNOWN else _refuse(value)


def empty(value: Any) -> bool:
    """What `{{#with}}` skips: as falsy, but 0 counts as something."""
    return (not truthy(value)) and not (type(value) in (int, float) and value == 0)


def text(value: Any) -> str:
    """A value as JavaScript prints it. Whole numbers print exactly up to 64 bits and beyond."""
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value) if -(10**21) < value < 10**21 else number(float_of(value))
    if kind is float:
        return number(value)
    if kind is list:
        return ",".join([text(item) for item in value])
    return "[object Object]" if kind is dict else str(_refuse(value))


def number(value: float) -> str:
    """A float as JavaScript's `Number.prototype.toString` writes it (ECMA-262, 6.1.6.1.20)."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    digits = repr(value)
    if "e" not in digits:
        return digits
    mantissa, exponent = digits.split("e")
    power = int(exponent)
    if power < -6:
        return f"{mantissa.removesuffix('.0')}e{power}" if power < -6 else digits
    if power < 0:
        return f"{value:.{-power + len(mantissa.replace('.', '').lstrip('-')) - 1}f}"
    return f"{mantissa.removesuffix('.0')}e+{power}"


def float_of(value: int) -> float:
    """A whole number as a float, infinite if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def same(one: Any, other: Any) -> bool:
    """Is a block's context the one it stands in? Decides, as in handlebars.js, whether `../` has one more step."""
    if one is other:
        return True
    kind, other_kind = type(one), type(other)
    if kind in (dict, list) or other_kind in (dict, list):
        return False
    if kind is other_kind and kind is str:
        return bool(one == other)
    return one is not None and other is not None and _as_number(one) == _as_number(other)


def _as_number(value: Any) -> float:
    if type(value) is not str:
        return float_of(value) if type(value) is int else float(value)
    try:
        return float(value.strip() or 0)
    except ValueError:
        return math.nan


def entries(mapping: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A mapping's items in JavaScript's order: whole-number keys first, by size."""
    if not all(type(key) is str for key in mapping):
        raise RenderError("A mapping with keys that are not texts is not JSON data")
    numbers = [key for key in mapping if key[:1].isdigit() and _INDEX.fullmatch(key)]
    if not numbers:
        return iter(mapping.items())
    numbers.sort(key=int)
    rest = [key for key in mapping if not _INDEX.fullmatch(key)]
    return iter([(key, mapping[key]) for key in numbers + rest])


def merged(context: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The context of a partial with named arguments."""
    if type(context) is dict:
        return {**context, **named}
    if type(context) in (list, str):
        return {**{str(index): item for index, item in enumerate(context)}, **named}
    return named


def _refuse(value: Any) -> bool:
    raise RenderError(f"A {type(value).__name__} is not JSON data")
