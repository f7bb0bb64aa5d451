"""Conditions in CEL over an event and a recipient: compiled once, bounded, and never a danger to the process.

A condition sees three names. `event` is {id, type, occurredAt, data}; `data` is the event's data; `recipient` is
{userId, name, email, phone, locale, timeZone, attributes}, or empty where nobody is addressed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from textwrap import shorten
from types import ModuleType
from typing import Any

from app.core.conditions.cost import MAX_UNITS, size_of, units
from app.core.conditions.shape import ROOTS, TYPES, ConditionError, Shape, shape_of

# The package imports its own command line, and with it a console, a line editor and a highlighter: 7 MB a process.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402

__all__ = ["ROOTS", "Condition", "ConditionError", "compile_condition", "usable_condition"]

_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_CHAIN = re.compile(r"\b(?:event|data|recipient)(?:\.[A-Za-z_]\w*)+")
_MAX_REASON = 300  # characters


class Condition:
    """A compiled condition. `roots` are the names it looks at: without `recipient` one evaluation serves everybody."""

    __slots__ = ("_program", "_shape", "roots", "text")

    def __init__(self, text: str, program: Any, shape: Shape) -> None:
        self.text = text
        self.roots = frozenset(shape.roots)
        self._program = program
        self._shape = shape

    def holds(
        self, event: Mapping[str, Any], data: Mapping[str, Any], recipient: Mapping[str, Any]
    ) -> tuple[bool, str | None]:
        """(True, None), (False, None), or (False, why it could not be judged). Never raises for what it is given."""
        seen = {"event": event, "data": data, "recipient": recipient}
        facts = {name: seen[name] for name in self.roots}
        size = size_of(facts.values())
        if size.too_big or units(self._shape, size, len(self.text)) > MAX_UNITS:
            return False, "the data is too large for this condition"
        try:
            found = self._program.execute(facts)
        except BaseException as error:
            return False, _reason(error, self.text)
        if found is True or found is False:
            return found, None
        return False, f"the condition gave {type(found).__name__}, neither true nor false"


class _Unusable(Condition):
    """A stored condition that an older release took and this one does not: false, and says so."""

    __slots__ = ("_why",)

    def __init__(self, text: str, why: str) -> None:
        super().__init__(text, None, Shape())
        self._why = why

    def holds(
        self,
        event: Mapping[str, Any],  # noqa: ARG002
        data: Mapping[str, Any],  # noqa: ARG002
        recipient: Mapping[str, Any],  # noqa: ARG002
    ) -> tuple[bool, str | None]:
        return False, self._why


@lru_cache(maxsize=2_048)
def compile_condition(text: str) -> Condition:
    """Compile CEL. Raises ConditionError with line and column for what does not compile or is not allowed:
    unknown names and functions, more than 2,000 characters, deep brackets, more than two comprehensions.
    """
    shape = shape_of(text)
    try:
        program = cel.compile(text)
    except BaseException as error:
        raise _compile_error(error) from None
    # What the scan took for a field and the compiler for a variable would only fail when an event comes.
    if unknown := set(program.variables()) - ROOTS - TYPES - shape.variables:
        raise ConditionError(f"{min(unknown)} is not known: use event, data or recipient")
    if units(shape, size_of(()), len(text)) > MAX_UNITS:
        raise ConditionError("the condition asks for too much work")
    return Condition(text, program, shape)


@lru_cache(maxsize=2_048)
def usable_condition(text: str) -> Condition:
    """A stored condition, compiled; one that no longer compiles is always false, with the reason."""
    try:
        return compile_condition(text)
    except ConditionError as error:
        return _Unusable(text, f"the condition cannot be used: {error}")


def _compile_error(error: BaseException) -> ConditionError:
    _raise_if_not_ours(error)
    if found := _PLACE.search(str(error)):
        line, column, message = found.groups()
        message = message.removeprefix("Syntax error: ").partition(" expecting {")[0]
        return ConditionError(_short(message), int(line), int(column))
    return ConditionError("the condition does not compile")


def _reason(error: BaseException, text: str) -> str:
    _raise_if_not_ours(error)
    if isinstance(error, KeyError):
        return f"missing field: {_path_of(str(error.args[0]), text)}" if error.args else "missing field"
    if isinstance(error, IndexError):
        return _short(f"missing item: {error}")
    said = str(error).partition("\n")[0]
    return _short(f"the condition failed: {said.partition('. ')[0].removesuffix('.')}")


def _path_of(name: str, text: str) -> str:
    """Where a missing field stands (data.order.total), if the condition speaks of only one of this name."""
    whole = {chain for chain in _CHAIN.findall(text) if name in chain.split(".")[1:]}
    paths = {chain[: f"{chain}.".index(f".{name}.") + len(name) + 1] for chain in whole}
    return _short(paths.pop() if len(paths) == 1 else name)


def _short(said: str) -> str:
    return shorten(said, _MAX_REASON, placeholder=" …")


def _raise_if_not_ours(error: BaseException) -> None:
    """A panic of the evaluator's is no Exception, and must be told from a thread's being stopped."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
