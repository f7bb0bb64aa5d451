"""Every helper a template may call, by name. What is not here is refused when the template is saved.

A helper takes values and returns one; a localized helper is first given the `Run`, for locale and time zone. Bad
input raises RenderError. `if`, `unless`, `each`, `with` and `raw` are blocks and live in the evaluator.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import formats
from .errors import LimitError, RenderError
from .values import look_up, text, truthy

_TEXT = 100_000  # characters; longer than any text a helper should work on


@dataclass(frozen=True, slots=True)
class Helper:
    """`call(*args, **named)` with `least` to `most` args. As a block an `is_test` helper works like `if`."""

    call: Callable[..., Any]
    least: int
    most: int
    named: tuple[str, ...] = ()
    is_test: bool = False
    is_localized: bool = False


def _lookup(container: Any, key: Any) -> Any:
    return look_up(container, text(key)) if truthy(container) else container


def _log(*values: Any, **named: Any) -> None:
    """Templates have nowhere to log to: printed as nothing."""


def _kind(value: Any) -> type:
    return float if type(value) is int else str if isinstance(value, str) else type(value)


def _eq(one: Any, other: Any) -> bool:
    return _kind(one) is _kind(other) and bool(one == other)


def _ne(one: Any, other: Any) -> bool:
    return not _eq(one, other)


def _ordered(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def helper(one: Any, other: Any) -> bool:
        if one is None or other is None:
            return False
        if _kind(one) is not _kind(other) and {_kind(one), _kind(other)} == {float, str}:
            one, other = formats.decimal(name, one), formats.decimal(name, other)
        elif _kind(one) is not _kind(other) or _kind(one) not in (float, str):
            raise RenderError(f"{name} compares two numbers or two texts")
        return compare(one, other)

    return helper


def _and(*values: Any) -> Any:
    return next((value for value in values if not truthy(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if truthy(value)), values[-1])


def _not(value: Any) -> bool:
    return not truthy(value)


def _default(value: Any, fallback: Any) -> Any:
    return fallback if value is None or value == "" else value


def _json(value: Any) -> str:
    try:
        return json_module.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise RenderError("json was given something that JSON cannot hold") from error


def _text(name: str, value: Any) -> str:
    if type(value) in (dict, list):
        raise RenderError(f"{name} works on a text, not on a list or a mapping")
    result = text(value)
    if len(result) > _TEXT:
        raise LimitError(f"{name} was given more than {_TEXT} characters")
    return result


def _truncate(value: Any, length: Any, ending: Any = "…") -> str:
    whole, end = _text("truncate", value), _text("truncate", ending)
    if type(length) is not int or length < 0:
        raise RenderError("truncate needs a length, a whole number")
    return whole if len(whole) <= length else whole[: max(0, length - len(end))].rstrip() + end[:length]


def _pluralize(count: Any, one: Any, many: Any = None) -> str:
    singular = _text("pluralize", one)
    plural = singular + "s" if many is None else _text("pluralize", many)
    amount = len(count) if type(count) in (list, dict) else formats.decimal("pluralize", 0 if count is None else count)
    return singular if amount == 1 else plural


def _join(values: Any, separator: Any = ", ", field: Any = None) -> str:
    if values is None:
        return ""
    if type(values) is not list:
        raise RenderError("join needs a list")
    if field is not None:
        values = [look_up(value, text(field)) for value in values]
    between, size = _text("join", separator), 0
    pieces = []
    for value in values:
        pieces.append(_text("join", value))
        size += len(pieces[-1]) + len(between)
        if size > _TEXT:
            raise LimitError(f"join would make more than {_TEXT} characters")
    return between.join(pieces)


def _upper(value: Any) -> str:
    return _text("upper", value).upper()


def _lower(value: Any) -> str:
    return _text("lower", value).lower()


def _capitalize(value: Any) -> str:
    whole = _text("capitalize", value)
    return whole[:1].upper() + whole[1:]


HELPERS: dict[str, Helper] = {
    "lookup": Helper(_lookup, 2, 2),
    "log": Helper(_log, 0, 20, ("level",)),
    "eq": Helper(_eq, 2, 2, is_test=True),
    "ne": Helper(_ne, 2, 2, is_test=True),
    "gt": Helper(_ordered("gt", lambda one, other: bool(one > other)), 2, 2, is_test=True),
    "gte": Helper(_ordered("gte", lambda one, other: bool(one >= other)), 2, 2, is_test=True),
    "lt": Helper(_ordered("lt", lambda one, other: bool(one < other)), 2, 2, is_test=True),
    "lte": Helper(_ordered("lte", lambda one, other: bool(one <= other)), 2, 2, is_test=True),
    "and": Helper(_and, 2, 20, is_test=True),
    "or": Helper(_or, 2, 20, is_test=True),
    "not": Helper(_not, 1, 1, is_test=True),
    "date": Helper(formats.date, 1, 2, is_localized=True),
    "time": Helper(formats.time, 1, 2, is_localized=True),
    "datetime": Helper(formats.date_time, 1, 2, is_localized=True),
    "number": Helper(formats.number, 1, 1, ("decimals",), is_localized=True),
    "money": Helper(formats.money, 2, 2, is_localized=True),
    "percent": Helper(formats.percent, 1, 1, ("decimals",), is_localized=True),
    "json": Helper(_json, 1, 1),
    "default": Helper(_default, 2, 2),
    "truncate": Helper(_truncate, 2, 3),
    "pluralize": Helper(_pluralize, 2, 3),
    "join": Helper(_join, 1, 2, ("field",)),
    "upper": Helper(_upper, 1, 1),
    "lower": Helper(_lower, 1, 1),
    "capitalize": Helper(_capitalize, 1, 1),
}
