"""The closures of blocks and partials: if, each, with, sections, partials, layouts, inline partials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .errors import LimitError, RenderError
from .runtime import NOTHING, Bound, Emit, Frame, Get, Run
from .values import empty, entries, merged, same, text, truthy

BUILT_IN = {"if": 1, "unless": 1, "each": 1, "with": 1, "raw": 0}
"""The blocks that are not helpers, and how many values each takes."""

Inlines = list[tuple[str, Emit]]


class Finds(Protocol):
    """Where partials are found by name."""

    def get(self, name: str) -> Emit | None: ...


def with_inlines(emit_all: Emit, inlines: Inlines, pushes: bool, is_root: bool) -> Emit:
    """A program that defines inline partials: they are in force for all that it renders."""

    def emit(frame: Frame, out: list[str]) -> None:
        partials = dict(frame.partials)
        inner = Frame(frame.context, frame.up, frame.data, frame.params, partials, frame.run)
        contexts = None if is_root else frame.up if pushes else (frame.context, frame.up)
        for name, body in inlines:
            partials[name] = Bound(body, inner, contexts, None, is_block=False)
        emit_all(inner, out)

    return emit


def without_params(emit_all: Emit) -> Emit:
    """A program whose block parameters get no values."""

    def emit(frame: Frame, out: list[str]) -> None:
        params = ((), frame.params)
        emit_all(Frame(frame.context, frame.up, frame.data, params, frame.partials, frame.run), out)

    return emit


def _here(frame: Frame) -> Frame:
    """The frame of a block on the same context; around a null `this` is an empty mapping, as in handlebars.js."""
    if frame.context is not None:
        return frame
    up = frame.up if frame.up and frame.up[0] is None else (None, frame.up)
    return Frame(NOTHING, up, frame.data, frame.params, frame.partials, frame.run)


def choose(get: Get, test: Callable[[Any], bool], body: Emit, inverse: Emit) -> Emit:
    def emit(frame: Frame, out: list[str]) -> None:
        value = get(frame)
        chosen = body if value is True or (value is not False and test(value)) else inverse
        chosen(frame if frame.context is not None else _here(frame), out)

    return emit


def choose_with_zero(get: Get, zero: Get, body: Emit, inverse: Emit) -> Emit:
    """`{{#if x includeZero=true}}`: 0 counts as true."""

    def emit(frame: Frame, out: list[str]) -> None:
        value = get(frame)
        is_zero = type(value) in (int, float) and value == 0
        chosen = body if truthy(value) or (is_zero and truthy(zero(frame))) else inverse
        chosen(_here(frame), out)

    return emit


def each(get: Get, body: Emit, inverse: Emit, has_params: bool) -> Emit:
    def emit(frame: Frame, out: list[str]) -> None:
        value = get(frame)
        kind = type(value)
        if kind is list and value:
            _loop(frame, out, enumerate(value), len(value), body, has_params)
        elif kind is dict and value:
            _loop(frame, out, entries(value), len(value), body, has_params)
        else:
            inverse(_here(frame), out)

    return emit


def _loop(frame: Frame, out: list[str], items: Any, count: int, body: Emit, has_params: bool) -> None:
    """One frame serves all rounds: what a round leaves behind (a Bound) does not outlive it."""
    data = frame.data.child()
    values = data.values
    outer, up = frame.context, (frame.context, frame.up)
    inner = Frame(None, up, data, frame.params, frame.partials, frame.run)
    for index, (key, item) in enumerate(items):
        values["key"] = key
        values["index"] = index
        values["first"] = index == 0
        values["last"] = index == count - 1
        inner.context = item
        if type(item) is not dict:
            inner.up = frame.up if same(item, outer) else up
        if has_params:
            inner.params = ((item, key), frame.params)
        body(inner, out)


def _on(value: Any, frame: Frame, params: Any) -> Frame:
    up = frame.up if same(value, frame.context) else (frame.context, frame.up)
    return Frame(value, up, frame.data, params, frame.partials, frame.run)


def within(get: Get, body: Emit, inverse: Emit, has_params: bool) -> Emit:
    """`{{#with}}`."""

    def emit(frame: Frame, out: list[str]) -> None:
        value = get(frame)
        if empty(value):
            inverse(_here(frame), out)
        else:
            body(_on(value, frame, ((value,), frame.params) if has_params else frame.params), out)

    return emit


def section(get: Get, body: Emit, inverse: Emit, has_params: bool) -> Emit:
    """`{{#name}}`: loops over a list, steps into anything else that is there."""

    def emit(frame: Frame, out: list[str]) -> None:
        value = get(frame)
        if type(value) is list and value:
            _loop(frame, out, enumerate(value), len(value), body, has_params)
        elif value is None or value is False or type(value) is list:
            inverse(_here(frame), out)
        elif value is True:
            here = _here(frame)
            params = ((), here.params) if has_params else here.params
            body(Frame(here.context, here.up, here.data, params, here.partials, here.run), out)
        else:
            body(_on(value, frame, ((), frame.params) if has_params else frame.params), out)

    return emit


Target = Emit | Bound
Find = Callable[[Frame], tuple[str, Target | None]]


def found(library: Finds, name: str | None, dynamic: Get | None, own: Emit | None) -> Find:
    """How a partial is found: the block handed in, then inline partials in force, then the library."""

    def find(frame: Frame) -> tuple[str, Target | None]:
        if name == "@partial-block":
            return name, frame.data.block
        wanted = name if name is not None else text(dynamic(frame)) if dynamic else ""
        return wanted, frame.partials.get(wanted) or own or library.get(wanted)

    return find


def partial(find: Find, context: Get | None, named: tuple[tuple[str, Get], ...], indent: str) -> Emit:
    def emit(frame: Frame, out: list[str]) -> None:
        name, target = find(frame)
        if target is None:
            raise RenderError(f"There is no partial called {name[:100]}")
        value = _partial_context(frame, context, named)
        if not indent:
            _render(target, value, frame, frame.data, frame.partials, out)
            return
        inner: list[str] = []
        _render(target, value, frame, frame.data, frame.partials, inner)
        out.append(_indented("".join(inner), indent, frame.run))

    return emit


def partial_block(
    find: Find, context: Get | None, named: tuple[tuple[str, Get], ...], body: Emit, inlines: Inlines
) -> Emit:
    """`{{#> name}}`.

    The body is what `{{> @partial-block}}` renders, or is rendered itself if there is no such partial.
    """

    def emit(frame: Frame, out: list[str]) -> None:
        target = find(frame)[1]
        block = Bound(body, frame, (frame.context, frame.up), frame.data.block, is_block=True)
        data = frame.data.child()
        data.block = block
        partials = frame.partials
        if inlines:
            partials = dict(partials)
            inner = Frame(frame.context, frame.up, frame.data, frame.params, partials, frame.run)
            for name, inline in inlines:
                partials[name] = Bound(inline, inner, (frame.context, frame.up), None, is_block=False)
        value = _partial_context(frame, context, named)
        _render(block if target is None else target, value, frame, data, partials, out)

    return emit


def _partial_context(frame: Frame, context: Get | None, named: tuple[tuple[str, Get], ...]) -> Any:
    value = frame.context if context is None else context(frame)
    return merged(value, {key: get(frame) for key, get in named}) if named else value


def _render(target: Target, context: Any, frame: Frame, data: Any, partials: dict[str, Bound], out: list[str]) -> None:
    run = frame.run
    run.partials -= 1
    if run.partials < 0:
        raise LimitError("Partials are nested too deep")
    if isinstance(target, Bound):
        _render_bound(target, context, data, out)
    else:
        target(Frame(context, None, data, (), partials, run), out)
    run.partials += 1


def _render_bound(bound: Bound, context: Any, data: Any, out: list[str]) -> None:
    home = bound.frame
    contexts = bound.contexts
    if contexts is not None and same(context, contexts[0]):
        contexts = contexts[1]
    if bound.is_block:
        data = data.child()
        data.block = bound.outer_block
    bound.emit(Frame(context, contexts, data, home.params, home.partials, home.run), out)


def _indented(rendered: str, indent: str, run: Run) -> str:
    lines = rendered.split("\n")
    run.spend(len(lines) * len(indent))
    last = len(lines) - 1
    return "\n".join(line if index == last and not line else indent + line for index, line in enumerate(lines))
