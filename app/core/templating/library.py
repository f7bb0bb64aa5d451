"""The sources of one part of a message: its template and the partials it may name, compiled as they are needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from . import limits
from .errors import RenderError, TemplateError
from .evaluator import Escape, Evaluator
from .grammar import load_grammar
from .runtime import Emit
from .scanner import fault
from .tree import Program, parse
from .whitespace import control


class Clock:
    """The nodes and the CPU time of this thread that compiling one message may take.

    Not wall time: a sound template must not be refused because many threads compile at once. Nor because it is the
    first one of its process: the grammar is loaded before the time runs.
    """

    def __init__(self) -> None:
        load_grammar()
        self.deadline = time.thread_time() + limits.COMPILE_SECONDS
        self.nodes = 0

    def check(self) -> None:
        if time.thread_time() > self.deadline:
            raise TemplateError(f"The template takes more than {limits.COMPILE_SECONDS:g} seconds to read")

    def count(self) -> None:
        self.nodes += 1
        if self.nodes > limits.NODES:
            raise TemplateError(f"The template and its partials have more than {limits.NODES} texts and tags")
        if not self.nodes & 63:
            self.check()


def tree_of(source: str, clock: Clock) -> Program:
    """The tree of a source, whitespace cut."""
    return control(parse(source, clock.check))


T = TypeVar("T")


@dataclass
class Sources:
    """Partials by name, and how this part of the message prints values."""

    sources: Mapping[str, str]
    escape: Escape | None
    may_be_raw: bool
    clock: Clock
    inline_names: set[str] = field(default_factory=set)
    compiled: dict[str, Emit] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    named: list[tuple[str, Callable[[str], TemplateError]]] = field(default_factory=list)

    def template(self, source: str, program: Program | None = None) -> Emit:
        """Compile the template and every partial it names outright. `program` is its tree, if that is known already."""
        emit = self._evaluator(source).root(program or tree_of(source, self.clock))
        self._finish()
        return emit

    def tree(self, name: str) -> Program | None:
        """The tree of a partial, made anew at each call."""
        return self._inside(name, lambda: tree_of(self.sources[name], self.clock)) if name in self.sources else None

    def count(self) -> None:
        self.clock.count()

    def required(self, name: str, fault: Callable[[str], TemplateError]) -> None:
        if name in self.sources:
            self.optional(name)
        else:
            self.named.append((name, fault))

    def optional(self, name: str) -> None:
        if name in self.sources and name not in self.compiled:
            self.waiting.append(name)

    def copy(self, name: str, program: Program) -> Emit:
        source = self.sources[name]
        return self._inside(name, lambda: self._evaluator(source).root(program))

    def get(self, name: str) -> Emit | None:
        """A partial by name, compiled now if only the data named it."""
        if name not in self.compiled:
            if name not in self.sources:
                return None
            # With a list of work of its own: several threads may come here at once.
            late = replace(self, clock=Clock(), waiting=[name], named=[], inline_names=set(self.inline_names))
            try:
                late._finish()
            except TemplateError as error:
                raise RenderError(str(error)) from error
        return self.compiled[name]

    def _finish(self) -> None:
        while self.waiting:
            name = self.waiting.pop()
            if name not in self.compiled:
                source = self.sources[name]
                emit = self._inside(
                    name,
                    lambda source=source: self._evaluator(source).root(tree_of(source, self.clock)),  # type: ignore[misc]
                )
                self.compiled[name] = emit
        for name, error in self.named:
            if name not in self.inline_names:
                raise error(f"There is no partial called {name[:100]}")

    def _evaluator(self, source: str) -> Evaluator:
        return Evaluator(self.escape, self.may_be_raw, self, lambda position, message: fault(source, position, message))

    def _inside(self, name: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except TemplateError as error:
            error.partial = error.partial or name
            raise
