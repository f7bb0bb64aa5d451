"""What stands inside one tag: calls, paths and literals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from . import limits
from .errors import TemplateError


@dataclass(frozen=True, slots=True)
class Path:
    """`@root.a.[b c]`, `../x`, `this`.

    `depth` steps outwards, then the parts by name. `is_data` if it starts with @.
    """

    is_data: bool
    depth: int
    parts: tuple[str, ...]
    original: str

    @property
    def is_scoped(self) -> bool:
        """Does it say `this` or start with a dot? Then it is no helper and no block parameter (ast.js)."""
        return self.original.startswith(".") or bool(re.search(r"this\b", self.original, re.ASCII))

    @property
    def simple_name(self) -> str | None:
        """The name, if this is nothing but a name, and so may be a helper's."""
        if len(self.parts) == 1 and not self.depth and not self.is_data and not self.is_scoped:
            return self.parts[0]
        return None


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | float | bool | None


@dataclass(frozen=True, slots=True)
class Call:
    """`head args key=value`. The head is a path; for a partial it may be a sub-expression instead."""

    head: Path | Call
    args: tuple[Expression, ...] = ()
    hash: tuple[tuple[str, Expression], ...] = ()

    @property
    def name(self) -> str | None:
        return self.head.simple_name if isinstance(self.head, Path) else None


Expression = Path | Literal | Call


def load_grammar() -> ModuleType:
    """The grammar, which is loaded when it is first wanted: a web process that reads no template goes without."""
    from . import syntax

    return syntax


def parse_tag(body: str, dynamic: bool = False) -> Call:
    """Parse `name arg key=value`. `dynamic` allows a sub-expression as name (partials).

    Raises TemplateError with the column within the body. Results are cached by the text: the grammar takes
    milliseconds.
    """
    call = _parse(body)
    if isinstance(call.head, Call) and not dynamic:
        raise TemplateError("A tag cannot start with a bracket")
    return call


@lru_cache(maxsize=8192)
def _parse(body: str) -> Call:
    _shallow(body)
    head, arguments = load_grammar().read(body)
    return _call(head, arguments)


def _shallow(body: str) -> None:
    depth = 0
    for char in body:
        depth += (char == "(") - (char == ")")
        if depth > limits.BRACKETS:
            raise TemplateError(f"Brackets are nested more than {limits.BRACKETS} deep")


def _call(head: Any, arguments: list[Any]) -> Call:
    args: list[Expression] = []
    named: dict[str, Expression] = {}
    for argument in arguments:
        if argument[0] == "kwparam":
            named[_key(argument[1])] = _expression(argument[2])
        elif named:
            raise TemplateError("A value cannot stand after a named argument")
        else:
            args.append(_expression(argument))
    first = _expression(head)
    if isinstance(first, Literal):
        # As in handlebars.js, {{"a b"}} and {{12}} are names.
        name = first.value if isinstance(first.value, str) else _literal_name(head)
        first = Path(False, 0, (name,), name)
    return Call(first, tuple(args), tuple(named.items()))


def _key(segment: Any) -> str:
    if isinstance(segment, tuple):
        return str(segment[1])
    if segment in ("@", "/", ".", ".."):
        raise TemplateError("A named argument needs a name")
    return str(segment)


def _literal_name(head: Any) -> str:
    value = head[1]
    if isinstance(value, tuple):
        number = float(value[1])
        return str(int(number)) if number.is_integer() and abs(number) < 1e21 else repr(number)
    return {True: "true", False: "false", None: "undefined", "null": "null"}[value]


def _expression(tree: Any) -> Expression:
    kind, value = tree[0], tree[1]
    if kind == "path":
        return _path(value)
    if kind == "subexpr":
        return _call(value, tree[2])
    if isinstance(value, tuple):
        return Literal(value[1] if value[0] == "string" else _number(value[1]))
    return Literal(None if value == "null" else value)


def _number(text: str) -> float:
    return float(text) if "." in text or len(text) > 15 else int(text)


def _path(segments: list[Any]) -> Path:
    is_data = segments[0] == "@"
    if is_data:
        segments = segments[1:]
    names, separators = segments[::2], segments[1::2]
    if len(names) == len(separators) or any(separator not in (".", "/") for separator in separators):
        raise TemplateError("This is not a path")
    depth, parts = 0, []
    for name in names:
        if isinstance(name, tuple):
            parts.append(str(name[1]))
        elif name in ("@", "/"):
            raise TemplateError("This is not a path")
        elif name not in ("..", ".", "this"):
            parts.append(str(name))
        elif parts:
            raise TemplateError(f"{name} can only stand at the start of a path")
        else:
            depth += name == ".."
    original = "".join(str(item[1]) if isinstance(item, tuple) else str(item) for item in segments)
    return Path(is_data, depth, tuple(parts), "@" * is_data + original)
