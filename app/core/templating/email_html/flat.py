"""A template as one HTML text with a private character for each tag, and back again.

So what is done to HTML once per message can be done once per template: the text is changed, the characters stay, and
the tree is built anew around them. Layouts and partials that are named outright are written out in their places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from .. import limits
from ..grammar import Literal, Path
from ..tree import Block, Content, Mustache, Node, Partial, Program
from ..values import text

_FIRST = 0xF0000  # Supplementary Private Use Area-A
_LAST = 0xFFFFD
PLACE = re.compile("[\U000f0000-\U000ffffd]")
_MOST_PLACES = 5_000
_LARGEST = 400_000


class NotStaticError(Exception):
    """It cannot be proven that this does not depend on the data: do it for each message."""


@dataclass(slots=True)
class Place:
    """What a private character stands for.

    Leaf; open, else and close of a block; body and body_close of one rendered here.
    """

    kind: str
    node: Node


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which inline partials and which partial block are in force."""

    inlines: Mapping[str, tuple[Block, _Scope]]
    block: tuple[Block, _Scope] | None
    depth: int


@dataclass(slots=True)
class Flat:
    """The template written out. `places[n]` is what the n-th private character stands for."""

    html: str = ""
    places: list[Place] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    """Partial blocks and inline partials whose body has been written out, where it is rendered: by `id`."""
    copied: set[int] = field(default_factory=set)
    """Tags whose partial has been written out: by `id`."""

    def place(self, char: str) -> Place:
        return self.places[ord(char) - _FIRST]


def flatten(program: Program, partial: Callable[[str], Program | None]) -> Flat:
    """Write a template out. `partial` gives a partial's tree by name. Raises NotStaticError."""
    writer = _Writer(partial)
    writer.program(program, _Scope({}, None, 0))
    writer.flat.html = "".join(writer.out)
    return writer.flat


class _Writer:
    def __init__(self, partial: Callable[[str], Program | None]) -> None:
        self.partial = partial
        self.flat = Flat()
        self.out: list[str] = []
        self.size = 0

    def mark(self, kind: str, node: Node) -> None:
        self.flat.places.append(Place(kind, node))
        if len(self.flat.places) > _MOST_PLACES:
            raise NotStaticError
        self.out.append(chr(_FIRST + len(self.flat.places) - 1))

    def program(self, program: Program | None, scope: _Scope) -> None:
        if program is None:
            return
        inlines = dict(scope.inlines)
        inner = replace(scope, inlines=inlines)
        inlines.update(_inlines(program, inner))
        for node in program.body:
            if isinstance(node, Content):
                self.content(node.text)
            elif isinstance(node, Mustache):
                self.mark("leaf", node)
            elif isinstance(node, Partial):
                self.mark("open", node)
                self.partial_tag(node, inner)
                self.mark("close", node)
            elif isinstance(node, Block):
                self.block(node, inner)

    def content(self, literal: str) -> None:
        self.size += len(literal)
        if self.size > _LARGEST or PLACE.search(literal):
            raise NotStaticError
        self.out.append(literal)

    def block(self, node: Block, scope: _Scope) -> None:
        if node.kind == "inline":
            self.mark("leaf", node)
            return
        self.mark("open", node)
        if node.kind == "partial":
            self.partial_block(node, scope)
        else:
            self.program(node.program, scope)
            self.mark("else", node)
            self.program(node.inverse, scope)
        self.mark("close", node)

    def partial_tag(self, node: Partial, scope: _Scope) -> None:
        name = _name(node)
        if name == "@partial-block":
            if scope.block is None:
                raise NotStaticError
            self.body(scope.block[0], replace(scope.block[1], depth=scope.depth + 1))
        elif name in scope.inlines:
            block, home = scope.inlines[name]
            self.body(block, _Scope(home.inlines, scope.block, scope.depth + 1))
        else:
            self.source(node, name, scope)

    def partial_block(self, node: Block, scope: _Scope) -> None:
        name = _name(node)
        assert node.program is not None
        inlines = dict(scope.inlines)
        home = replace(scope, inlines=inlines)
        inlines.update(_inlines(node.program, home))
        inside = _Scope(inlines, (node, scope), scope.depth)
        if name in scope.inlines:
            block, definer = scope.inlines[name]
            self.body(block, _Scope(definer.inlines, inside.block, scope.depth + 1))
        elif node.layout is None and self.partial(name) is None:
            self.body(node, replace(scope, depth=scope.depth + 1))
        else:
            self.source(node, name, inside)

    def body(self, block: Block, scope: _Scope) -> None:
        """The body of a partial block or inline partial, where it is rendered: in one place, or it is not static."""
        if id(block) in self.flat.used or scope.depth > limits.PARTIALS:
            raise NotStaticError
        self.flat.used.add(id(block))
        self.mark("body", block)
        self.program(block.program, scope)
        self.mark("body_close", block)

    def source(self, node: Partial | Block, name: str, scope: _Scope) -> None:
        tree = (node.program if isinstance(node, Partial) else node.layout) or self.partial(name)
        if tree is None or scope.depth > limits.PARTIALS:
            raise NotStaticError
        self.flat.copied.add(id(node))
        self.program(tree, replace(scope, depth=scope.depth + 1))


def _inlines(program: Program, scope: _Scope) -> Iterator[tuple[str, tuple[Block, _Scope]]]:
    for node in program.body:
        if isinstance(node, Block) and node.kind == "inline":
            name = node.call.args[0]
            assert isinstance(name, Literal)
            yield text(name.value), (node, scope)


def _name(node: Partial | Block) -> str:
    if not isinstance(node.call.head, Path):
        raise NotStaticError
    return node.call.head.original


def rebuild(flat: Flat, html: str) -> Program:
    """The tree of a changed text, in which each private character stands for what it did in `flat`.

    Places may have moved or gone, but blocks must be balanced and nothing doubled, else NotStaticError.
    """
    return _Rebuilder(flat, html).tree()


class _Rebuilder:
    def __init__(self, flat: Flat, html: str) -> None:
        self.flat = flat
        self.pieces = PLACE.split(html)
        self.chars = PLACE.findall(html)
        self.index = 0
        self.bodies: dict[int, Program] = {}
        self.copies: list[tuple[Block, Block]] = []

    def tree(self) -> Program:
        present = set(self.chars)
        definitions = [chr(_FIRST + n) for n, place in enumerate(self.flat.places) if _is_definition(place)]
        if len(present) < len(self.chars) or not present.issuperset(definitions):
            raise NotStaticError
        root = self.program()
        if self.index < len(self.chars):
            raise NotStaticError
        # Bodies go back to where they were written; the list grows as inline partials inside them are copied.
        for original, copy in self.copies:
            copy.program = self.bodies.get(id(original)) or self.unused(original)
        return root

    def program(self) -> Program:
        """Nodes up to the place that ends this program."""
        body: list[Node] = []
        while True:
            literal = self.pieces[self.index]
            if literal:
                body.append(Content(literal, literal))
            if self.index >= len(self.chars):
                return Program(body)
            place = self.flat.place(self.chars[self.index])
            if place.kind in ("else", "close", "body_close"):
                return Program(body)
            self.index += 1
            if place.kind == "leaf":
                body.append(self.copy(place.node))
            elif place.kind == "body":
                self.bodies[id(place.node)] = self.program()
                self.end("body_close", place.node)
            else:
                body.append(self.opened(place.node))

    def copy(self, node: Node) -> Node:
        new = replace(node)
        if isinstance(node, Block) and isinstance(new, Block):
            self.copies.append((node, new))
        return new

    def opened(self, node: Node) -> Node:
        first = self.program()
        if isinstance(node, Block) and node.kind == "block":
            self.end("else", node)
            second = self.program()
            self.end("close", node)
            return replace(node, program=_like(node.program, first), inverse=_like(node.inverse, second))
        self.end("close", node)
        is_copied = id(node) in self.flat.copied
        if isinstance(node, Partial):
            return replace(node, program=first if is_copied else None)
        new = self.copy(node)
        assert isinstance(new, Block)
        new.layout = first if is_copied else None
        return new

    def end(self, kind: str, node: Node) -> None:
        place = self.flat.place(self.chars[self.index]) if self.index < len(self.chars) else None
        if place is None or place.kind != kind or place.node is not node:
            raise NotStaticError
        self.index += 1

    def unused(self, block: Block) -> Program | None:
        """A body that is rendered nowhere still defines its inline partials."""
        if block.program is None:
            return None
        body = [
            self.copy(node) if isinstance(node, Block) and node.kind == "inline" else node
            for node in block.program.body
        ]
        return Program(body, block.program.params)


def _is_definition(place: Place) -> bool:
    return place.kind == "leaf" and isinstance(place.node, Block)


def _like(old: Program | None, new: Program) -> Program | None:
    return Program(new.body, old.params, old.chained) if old else None
