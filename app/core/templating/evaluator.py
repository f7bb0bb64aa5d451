"""A template's tree to closures, which write its text.

Values are looked up by key and index only; every loop has a budget.

Follows the compiler and runtime of handlebars.js 4.7. Each closure takes the `Frame` it stands in and the list it
writes to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from . import blocks, emitters
from .errors import TemplateError
from .grammar import Call, Expression, Literal, Path
from .helpers import HELPERS, Helper
from .runtime import Emit, Frame, Get
from .tree import Block, Comment, Content, Mustache, Node, Partial, Program
from .values import text, truthy

Scope = tuple[tuple[str, ...], ...]
"""The block parameters in force, innermost block first."""
Escape = Callable[[str], str]
Fault = Callable[[int, str], TemplateError]


class Library(blocks.Finds, Protocol):
    """The other sources of a message, which this one may name."""

    inline_names: set[str]

    def count(self) -> None:
        """Count one node; raises if there are too many or compiling takes too long."""

    def required(self, name: str, fault: Callable[[str], TemplateError]) -> None:
        """A partial named outright: it must exist, as a source or an inline partial."""

    def optional(self, name: str) -> None:
        """A partial that need not exist."""

    def copy(self, name: str, program: Program) -> Emit:
        """Compile a copy of a partial that was made for one place."""


class Evaluator:
    """Compiles one source. `fault` makes an error that points into it; `may_be_raw` allows triple braces."""

    def __init__(self, escape: Escape | None, may_be_raw: bool, library: Library, fault: Fault) -> None:
        self.escape = escape
        self.may_be_raw = may_be_raw
        self.library = library
        self.fault = fault

    # --- programs ---

    def root(self, program: Program) -> Emit:
        emit, inlines = self.parts(program, ())
        return blocks.with_inlines(emit, inlines, pushes=False, is_root=True) if inlines else emit

    def parts(self, program: Program, scope: Scope) -> tuple[Emit, blocks.Inlines]:
        """A program without the inline partials it defines, and these."""
        inlines: blocks.Inlines = []
        pairs: list[tuple[str, Emit]] = []
        literal, weight = "", 0
        for node in program.body:
            self.library.count()
            if isinstance(node, Content):
                literal += node.text
                weight += len(node.text)
            elif isinstance(node, Block) and node.kind == "inline":
                inlines.append(self.inline(node, scope))
            elif emit := self.node(node, scope):
                pairs.append((literal, emit))
                literal = ""
        return emitters.sequence(tuple(pairs), literal, weight), inlines

    def inline(self, block: Block, scope: Scope) -> tuple[str, Emit]:
        name = block.call.args[0]
        assert isinstance(name, Literal)
        assert block.program is not None
        self.library.inline_names.add(text(name.value))
        return text(name.value), self.program(block.program, scope, pushes=True)

    def program(self, program: Program | None, scope: Scope, *, pushes: bool, gives_params: bool = False) -> Emit:
        """A block's program.

        `pushes`: it runs on a context of its own; `gives_params`: its caller fills its parameters.

        A program with parameters adds a level to the scope, even where nobody fills them.
        """
        if program is None:
            return nothing
        emit, inlines = self.parts(program, (program.params, *scope) if program.params else scope)
        if inlines:
            emit = blocks.with_inlines(emit, inlines, pushes, is_root=False)
        return blocks.without_params(emit) if program.params and not gives_params else emit

    def node(self, node: Node, scope: Scope) -> Emit | None:
        if isinstance(node, Mustache):
            return self.mustache(node, scope)
        if isinstance(node, Partial):
            return self.partial(node, scope)
        if isinstance(node, Block):
            return self.partial_block(node, scope) if node.kind == "partial" else self.block(node, scope)
        assert isinstance(node, Comment)
        return None

    # --- values ---

    def value(self, expression: Expression, scope: Scope, position: int) -> Get:
        if isinstance(expression, Literal):
            constant = expression.value
            return lambda _: constant
        if isinstance(expression, Call):
            if expression.name not in HELPERS:
                raise self.fault(position, f"There is no helper called {_written(expression.head)}")
            return self.helper(expression.name, expression, scope, position)
        return self.path(expression, scope, position)

    def path(self, path: Path, scope: Scope, position: int) -> Get:
        if path.is_data:
            if path.parts[:1] == ("_parent",) or not path.parts:
                raise self.fault(position, f"{path.original} cannot be used; write @../ for the loop outside")
            return emitters.data_getter(path.depth, path.parts)
        if (level := _level(path, scope)) is not None:
            return emitters.param_getter(level, scope[level].index(path.parts[0]), path.parts[1:])
        return emitters.context_getter(path.depth, path.parts)

    def helper(self, name: str, call: Call, scope: Scope, position: int) -> Get:
        helper = HELPERS[name]
        self.helper_checked(name, helper, call, position)
        arguments = tuple(self.value(argument, scope, position) for argument in call.args)
        named = tuple((key, self.value(value, scope, position)) for key, value in call.hash)
        return emitters.helper_getter(name, helper, arguments, named)

    def helper_checked(self, name: str, helper: Helper, call: Call, position: int) -> None:
        if not helper.least <= len(call.args) <= helper.most:
            needs = str(helper.least) if helper.least == helper.most else f"{helper.least} to {helper.most}"
            hint = "" if call.args else f"; for a field of that name write this.{name}"
            raise self.fault(position, f"The helper {name} takes {needs} values, not {len(call.args)}{hint}")
        if name == "lookup" and call.args[1] == Literal(None):
            raise self.fault(position, "lookup needs a key, not null")
        for key, _ in call.hash:
            if key not in helper.named:
                raise self.fault(position, f"The helper {name} takes no {key}=")

    # --- tags ---

    def mustache(self, node: Mustache, scope: Scope) -> Emit:
        call = node.call
        get = self.called(call, scope, node.position)
        if node.escaped:
            # In a JSON payload the json helper prints a whole value, quotes and all.
            return emitters.printed(get, None if call.name == "json" and not self.may_be_raw else self.escape)
        if not self.may_be_raw and call.name != "json":
            raise self.fault(node.position, "In a payload write {{x}} within quotes, or {{json x}} for a whole value")
        return emitters.printed(get, None)

    def called(self, call: Call, scope: Scope, position: int) -> Get:
        """What `{{call}}` prints: a helper's result or a value of the data."""
        name = call.name if isinstance(call.head, Path) and _level(call.head, scope) is None else None
        if name in HELPERS:
            return self.helper(name, call, scope, position)
        if name in blocks.BUILT_IN and name != "raw":
            raise self.fault(position, f"{name} is a block: write {{{{#{name} …}}}} … {{{{/{name}}}}}")
        if call.args or call.hash:
            raise self.fault(position, f"There is no helper called {_written(call.head)}")
        return self.value(call.head, scope, position)

    def block(self, node: Block, scope: Scope) -> Emit:
        call = node.call
        name = call.name if isinstance(call.head, Path) and _level(call.head, scope) is None else None
        if name in blocks.BUILT_IN:
            return self.built_in(name, node, scope)
        if name in HELPERS:
            if not HELPERS[name].is_test:
                raise self.fault(node.position, f"The helper {name} cannot be used as a block")
            test = self.helper(name, call, scope, node.position)
            return blocks.choose(test, truthy, *self.branches(node, scope, pushes=False))
        if call.args or call.hash:
            raise self.fault(node.position, f"There is no helper called {_written(call.head)}")
        get = self.value(call.head, scope, node.position)
        return blocks.section(get, *self.branches(node, scope, pushes=True), has_params=bool(_params(node)))

    def built_in(self, name: str, node: Block, scope: Scope) -> Emit:
        call = node.call
        if len(call.args) != blocks.BUILT_IN[name]:
            raise self.fault(node.position, f"#{name} takes {blocks.BUILT_IN[name]} value, not {len(call.args)}")
        if name == "raw":
            return self.branches(node, scope, pushes=False)[0]
        get = self.value(call.args[0], scope, node.position)
        named = {key: self.value(value, scope, node.position) for key, value in call.hash}
        body, inverse = self.branches(node, scope, pushes=name in ("each", "with"))
        if name == "each":
            return blocks.each(get, body, inverse, has_params=bool(_params(node)))
        if name == "with":
            return blocks.within(get, body, inverse, has_params=bool(_params(node)))
        first, second = (body, inverse) if name == "if" else (inverse, body)
        if "includeZero" in named:
            return blocks.choose_with_zero(get, named["includeZero"], first, second)
        return blocks.choose(get, truthy, first, second)

    def branches(self, node: Block, scope: Scope, *, pushes: bool) -> tuple[Emit, Emit]:
        """A block's two programs; those that run on a context of their own also get their parameters filled."""
        body = self.program(node.program, scope, pushes=pushes, gives_params=pushes)
        return body, self.program(node.inverse, scope, pushes=False)

    # --- partials ---

    def partial(self, node: Partial, scope: Scope) -> Emit:
        name, find = self.partial_name(node.call, scope, node.position)
        own = self.library.copy(name, node.program) if name and node.program else None
        if name and not own and name != "@partial-block":
            self.library.required(name, lambda message: self.fault(node.position, message))
        context, named = self.partial_arguments(node.call, scope, node.position)
        return blocks.partial(blocks.found(self.library, name, find, own), context, named, node.indent)

    def partial_block(self, node: Block, scope: Scope) -> Emit:
        name, find = self.partial_name(node.call, scope, node.position)
        own = self.library.copy(name, node.layout) if name and node.layout else None
        if name and not own:
            self.library.optional(name)
        assert node.program is not None
        body, inlines = self.parts(node.program, scope)
        if inlines:
            body = blocks.with_inlines(body, inlines, pushes=False, is_root=False)
        context, named = self.partial_arguments(node.call, scope, node.position)
        return blocks.partial_block(blocks.found(self.library, name, find, own), context, named, body, inlines)

    def partial_name(self, call: Call, scope: Scope, position: int) -> tuple[str | None, Get | None]:
        if isinstance(call.head, Call):
            return None, self.value(call.head, scope, position)
        return call.head.original, None

    def partial_arguments(
        self, call: Call, scope: Scope, position: int
    ) -> tuple[Get | None, tuple[tuple[str, Get], ...]]:
        context = self.value(call.args[0], scope, position) if call.args else None
        return context, tuple((key, self.value(value, scope, position)) for key, value in call.hash)


def nothing(frame: Frame, out: list[str]) -> None:
    """The body of an empty block."""


def _params(node: Block) -> tuple[str, ...]:
    return node.program.params if node.program else ()


def _written(head: Path | Call) -> str:
    return head.original if isinstance(head, Path) else _written(head.head)


def _level(path: Path, scope: Scope) -> int | None:
    """How many blocks out the path's first name is a block parameter."""
    if path.is_data or path.depth or not path.parts or path.is_scoped:
        return None
    return next((level for level, names in enumerate(scope) if path.parts[0] in names), None)
