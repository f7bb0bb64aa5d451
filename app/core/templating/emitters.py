"""The closures at the leaves: looking a value up, calling a helper, printing. These run most, so each does little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import RenderError
from .helpers import Helper
from .runtime import Emit, Frame, Get
from .values import look_up, text


def sequence(pairs: tuple[tuple[str, Emit], ...], tail: str, weight: int) -> Emit:
    """Literal texts and tags in turn. Every run through it is charged to the budget."""
    steps = len(pairs) + 1

    def emit(frame: Frame, out: list[str]) -> None:
        run = frame.run
        run.steps -= steps
        run.left -= weight
        if run.left < 0 or run.steps < run.mark:
            run.check()
        for literal, tag in pairs:
            out.append(literal)
            tag(frame, out)
        out.append(tail)

    return emit


def context_getter(depth: int, parts: tuple[str, ...]) -> Get:
    """The value of a path: `depth` contexts out, then by name."""
    if depth == 0 and len(parts) == 1:
        return _one(parts[0])
    if depth == 0 and len(parts) == 2:
        return _two(*parts)

    def get(frame: Frame) -> Any:
        value, up = frame.context, frame.up
        for _ in range(depth):
            if up is None:
                return None
            value, up = up
        for part in parts:
            value = value.get(part) if type(value) is dict else look_up(value, part)
        return value

    return get


def _one(name: str) -> Get:
    def get(frame: Frame) -> Any:
        value = frame.context
        return value.get(name) if type(value) is dict else look_up(value, name)

    return get


def _two(first: str, second: str) -> Get:
    def get(frame: Frame) -> Any:
        value = frame.context
        value = value.get(first) if type(value) is dict else look_up(value, first)
        return value.get(second) if type(value) is dict else look_up(value, second)

    return get


def data_getter(depth: int, parts: tuple[str, ...]) -> Get:
    """The value of an `@` path: `@index`, `@root.a`, `@../key`."""
    first, rest = parts[0], parts[1:]

    def get(frame: Frame) -> Any:
        data = frame.data
        for _ in range(depth):
            if data.parent is None:
                return None
            data = data.parent
        value = data.values.get(first)
        for part in rest:
            value = look_up(value, part)
        return value

    return get


def param_getter(level: int, index: int, parts: tuple[str, ...]) -> Get:
    """The value of a block parameter, `level` blocks with parameters out."""

    def get(frame: Frame) -> Any:
        params = frame.params
        for _ in range(level):
            params = params[1]
        values = params[0]
        value = values[index] if index < len(values) else None
        for part in parts:
            value = look_up(value, part)
        return value

    return get


def helper_getter(name: str, helper: Helper, args: tuple[Get, ...], named: tuple[tuple[str, Get], ...]) -> Get:
    """The result of a helper; long results cost more of the budget."""
    call, is_localized = helper.call, helper.is_localized

    def get(frame: Frame) -> Any:
        run = frame.run
        values = [arg(frame) for arg in args]
        if is_localized:
            values.insert(0, run)
        try:
            result = call(*values, **{key: value(frame) for key, value in named}) if named else call(*values)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            if isinstance(error, RenderError):
                raise
            raise RenderError(f"{name} cannot work with what it was given") from error
        run.steps -= 4 + (len(result) >> 5 if type(result) is str else 0)
        if run.steps < run.mark:
            run.check()
        return result

    return get


def printed(get: Get, escape: Callable[[str], str] | None) -> Emit:
    """Write a value, escaped if there is an escaping."""

    def emit(frame: Frame, out: list[str]) -> None:
        value = get(frame)
        if value is None:
            return
        if type(value) is not str:
            value = text(value)
        if escape is not None:
            value = escape(value)
        run = frame.run
        run.left -= len(value)
        if run.left < 0:
            run.check()
        out.append(value)

    return emit
