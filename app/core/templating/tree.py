"""Tokens to a tree: blocks are balanced, else chains linked, whitespace control and standalone lines applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import limits
from .errors import TemplateError
from .grammar import Call, Literal, Path, parse_tag
from .scanner import Tag, Text, fault, scan

Strip = tuple[bool, bool]


@dataclass(slots=True)
class Content:
    """Literal text. `text` is what prints; `original` what stood there before whitespace was cut."""

    text: str
    original: str
    left_cut: bool = False
    right_cut: bool = False


@dataclass(slots=True)
class Comment:
    strip: Strip


@dataclass(slots=True)
class Mustache:
    """`{{call}}`, or `{{{call}}}` if not `escaped`."""

    call: Call
    escaped: bool
    position: int
    strip: Strip


@dataclass(slots=True)
class Partial:
    """`{{> call}}`. `indent` is put before each line. `program` is a copy of the partial made for this very place."""

    call: Call
    position: int
    strip: Strip
    indent: str = ""
    program: Program | None = None


@dataclass(slots=True)
class Block:
    """`{{#call}}program{{else}}inverse{{/call}}`; kind block, inline (`#*inline`) or partial (`#>`).

    `layout` is a copy of the partial that a partial block names, made for this very place.
    """

    kind: str
    call: Call
    position: int
    program: Program | None
    inverse: Program | None
    open_strip: Strip
    inverse_strip: Strip
    close_strip: Strip
    layout: Program | None = None


Node = Content | Comment | Mustache | Partial | Block


@dataclass(slots=True)
class Program:
    """Nodes in order; `params` are the block parameters in force; `chained` marks the body of an `else if`."""

    body: list[Node] = field(default_factory=list)
    params: tuple[str, ...] = ()
    chained: bool = False


def parse(source: str, check: Callable[[], None] = lambda: None) -> Program:
    """The tree of a template.

    `check` is called once per tag and may raise, to end a compilation that takes too long.
    """
    from_tokens = _Parser(source, check)
    root = from_tokens.program(0, 0)
    if from_tokens.index < len(from_tokens.tokens):
        tag = from_tokens.tokens[from_tokens.index]
        what = "else" if isinstance(tag, Tag) and tag.kind == "else" else "closing tag"
        raise fault(source, tag.position, f"This {what} belongs to no block")
    return root


class _Parser:
    def __init__(self, source: str, check: Callable[[], None]) -> None:
        self.source = source
        self.tokens = scan(source)
        self.index = 0
        self.check = check
        self.nesting_checked()

    def nesting_checked(self) -> None:
        """Refuse deep nesting before anything recurses."""
        blocks = 0
        for token in self.tokens:
            if isinstance(token, Tag):
                if token.kind.startswith("open"):
                    blocks += 1
                elif token.kind == "close":
                    blocks -= 1
                if blocks > limits.BLOCKS:
                    raise fault(self.source, token.position, f"Blocks are nested more than {limits.BLOCKS} deep")

    def call(self, tag: Tag) -> Call:
        self.check()
        try:
            return parse_tag(tag.body, "partial" in tag.kind)
        except TemplateError as error:
            raise fault(self.source, tag.body_position + error.column - 1, error.message) from None

    def program(self, level: int, position: int) -> Program:
        if level > limits.LEVELS:
            raise fault(self.source, position, f"Blocks and else branches are nested more than {limits.LEVELS} deep")
        body: list[Node] = []
        while self.index < len(self.tokens):
            token = self.tokens[self.index]
            if isinstance(token, Text):
                body.append(Content(token.text, token.text))
            elif token.kind in ("else", "close"):
                break
            elif token.kind.startswith("open"):
                body.append(self.block(token, level))
                continue
            else:
                body.append(self.single(token))
            self.index += 1
        return Program(body)

    def single(self, tag: Tag) -> Node:
        if tag.kind == "comment":
            return Comment(tag.strip)
        call = self.call(tag)
        if tag.kind == "partial":
            self.partial_checked(tag, call)
            return Partial(call, tag.position, tag.strip)
        if tag.kind == "raw":
            body: list[Node] = [Content(tag.raw, tag.raw)] if tag.raw else []
            none = (False, False)
            return Block("block", call, tag.position, Program(body), None, none, none, none)
        return Mustache(call, tag.kind == "value", tag.position, tag.strip)

    def partial_checked(self, tag: Tag, call: Call) -> None:
        if len(call.args) > 1:
            raise fault(self.source, tag.position, "A partial takes one context at most")

    def block(self, tag: Tag, level: int) -> Block:
        self.index += 1
        call = self.call(tag)
        kind = {"open_inline": "inline", "open_partial": "partial"}.get(tag.kind, "block")
        if kind == "partial":
            self.partial_checked(tag, call)
        if kind == "inline" and not (call.name == "inline" and len(call.args) == 1 and type(call.args[0]) is Literal):
            raise fault(self.source, tag.position, 'An inline partial is written {{#*inline "name"}}')
        program = self.program(level + 1, tag.position)
        program.params = tag.params
        inverse, inverse_strip = self.inverse(level + 1)
        close = self.close(tag, call)
        if inverse and kind != "block":
            raise fault(self.source, tag.position, "A partial block cannot have an else")
        if inverse and inverse.chained:
            _last_block(inverse).close_strip = close.strip
        first: Program | None = program
        if tag.kind == "open_inverse":
            if inverse and inverse.chained:
                raise fault(self.source, tag.position, "A block that starts with ^ can have an else, but no else if")
            first, inverse = inverse, program
        return Block(kind, call, tag.position, first, inverse, tag.strip, inverse_strip, close.strip)

    def close(self, tag: Tag, call: Call) -> Tag:
        name = call.head.original if isinstance(call.head, Path) else None
        if self.index >= len(self.tokens):
            raise fault(self.source, tag.position, f"The block {name or tag.body} is not closed")
        close = self.tokens[self.index]
        if not isinstance(close, Tag) or close.kind != "close":
            raise fault(self.source, close.position, "This else has no block, or comes after the last else")
        closing = self.call(close)
        if not isinstance(closing.head, Path) or closing.head.original != name or closing.args or closing.hash:
            raise fault(self.source, close.position, f"The block {name or tag.body} is closed by {close.body}")
        self.index += 1
        return close

    def inverse(self, level: int) -> tuple[Program | None, Strip]:
        """What follows `{{else}}` or `{{else call}}`, the latter as a block within a chained program."""
        tag = self.tokens[self.index] if self.index < len(self.tokens) else None
        if not isinstance(tag, Tag) or tag.kind != "else":
            return None, (False, False)
        self.index += 1
        if not tag.body:
            if tag.params:
                raise fault(self.source, tag.position, "A plain else has no block parameters")
            return self.program(level, tag.position), tag.strip
        call = self.call(tag)
        program = self.program(level + 1, tag.position)
        program.params = tag.params
        inverse, strip = self.inverse(level + 1)
        if inverse and inverse.chained:
            _last_block(inverse).close_strip = strip
        block = Block("block", call, tag.position, program, inverse, tag.strip, strip, strip)
        return Program([block], chained=True), tag.strip


def _last_block(chained: Program) -> Block:
    block = chained.body[0]
    assert isinstance(block, Block)
    return block
