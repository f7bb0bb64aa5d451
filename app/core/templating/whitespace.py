"""Whitespace control (`~`) and standalone lines, as in handlebars.js 4.7 (whitespace-control.js), in linear time."""

from __future__ import annotations

from .scanner import SPACE
from .tree import Block, Comment, Content, Mustache, Node, Partial, Program


def control(root: Program) -> Program:
    """Cut the whitespace that belongs to tags and not to the text. Changes the tree in place and returns it."""
    _program(root, is_root=True)
    return root


def _program(program: Program, is_root: bool = False) -> None:
    body = program.body
    for index, node in enumerate(body):
        if isinstance(node, Mustache):
            _strip(body, index, *node.strip)
        elif isinstance(node, Comment | Partial):
            _inline(body, index, node, is_root)
        elif isinstance(node, Block):
            _outside(body, index, node, *_inside(node), is_root)


def _strip(body: list[Node], index: int, left: bool, right: bool) -> None:
    if right:
        _cut_after(body, index + 1, everything=True)
    if left:
        _cut_before(body, index - 1, everything=True)


def _inline(body: list[Node], index: int, node: Comment | Partial, is_root: bool) -> None:
    """A comment or partial alone on its line takes the line with it; a partial keeps its indentation."""
    standalone = _blank_before(body, index, is_root) and _blank_after(body, index, is_root)
    _strip(body, index, *node.strip)
    if standalone:
        _cut_after(body, index + 1)
        if _cut_before(body, index - 1) and isinstance(node, Partial):
            before = body[index - 1]
            assert isinstance(before, Content)
            node.indent = before.original[len(before.original.rstrip(" \t")) :]


def _outside(body: list[Node], index: int, block: Block, opens: bool, closes: bool, is_root: bool) -> None:
    first, last = block.program or block.inverse, block.inverse or block.program
    assert first is not None
    assert last is not None
    opens = opens and _blank_before(body, index, is_root)
    closes = closes and _blank_after(body, index, is_root)
    _strip(body, index, block.open_strip[0], block.close_strip[1])
    if opens:
        _cut_after(first.body, 0)
        _cut_before(body, index - 1)
    if closes:
        _cut_after(body, index + 1)
        _cut_before(last.body, len(last.body) - 1)


def _inside(block: Block) -> tuple[bool, bool]:
    """Cut within the block; say whether its opening and its closing tag could stand alone on their lines."""
    for program in (block.program, block.inverse):
        if program:
            _program(program)
    first = block.program or block.inverse
    assert first is not None
    inverse = block.inverse if block.program else None
    after_else = before_close = inverse
    if inverse and inverse.chained:
        after_else = _chained(inverse, 0).program
        while before_close and before_close.chained:
            before_close = _chained(before_close, -1).program
    opens = _blank_after(first.body, -1)
    closes = _blank_before((after_else or first).body, len((after_else or first).body))
    if block.open_strip[1]:
        _cut_after(first.body, 0, everything=True)
    if inverse and after_else and before_close:
        _around_else(block, first, after_else, before_close)
    elif block.close_strip[0]:
        _cut_before(first.body, len(first.body) - 1, everything=True)
    return opens, closes


def _chained(program: Program, index: int) -> Block:
    block = program.body[index]
    assert isinstance(block, Block)
    return block


def _around_else(block: Block, first: Program, after_else: Program, before_close: Program) -> None:
    if block.inverse_strip[0]:
        _cut_before(first.body, len(first.body) - 1, everything=True)
    if block.inverse_strip[1]:
        _cut_after(after_else.body, 0, everything=True)
    if block.close_strip[0]:
        _cut_before(before_close.body, len(before_close.body) - 1, everything=True)
    if _blank_before(first.body, len(first.body)) and _blank_after(after_else.body, -1):
        _cut_before(first.body, len(first.body) - 1)
        _cut_after(after_else.body, 0)


def _content(body: list[Node], index: int) -> Content | None:
    node = body[index] if 0 <= index < len(body) else None
    return node if isinstance(node, Content) else None


def _blank_before(body: list[Node], index: int, is_root: bool = False) -> bool:
    """Is there nothing but blanks between this place and the start of its line?"""
    if index == 0:
        return is_root
    before = _content(body, index - 1)
    if not before:
        return False
    rest = before.original.rstrip(SPACE)
    return "\n" in before.original[len(rest) :] or (is_root and index == 1 and not rest)


def _blank_after(body: list[Node], index: int, is_root: bool = False) -> bool:
    """Is there nothing but blanks between this place and the end of its line?"""
    if index + 1 >= len(body):
        return is_root
    after = _content(body, index + 1)
    if not after:
        return False
    text = after.original
    rest = len(text) - len(text.lstrip(SPACE))
    return "\n" in text[:rest] or (is_root and index + 2 >= len(body) and rest == len(text))


def _cut_after(body: list[Node], index: int, everything: bool = False) -> None:
    content = _content(body, index)
    if not content or (content.right_cut and not everything):
        return
    before = content.text
    if everything:
        content.text = before.lstrip(SPACE)
    else:
        text = before.lstrip(" \t")
        content.text = text[2:] if text.startswith("\r\n") else text[1:] if text.startswith("\n") else text
    content.right_cut = content.text != before


def _cut_before(body: list[Node], index: int, everything: bool = False) -> bool:
    content = _content(body, index)
    if not content or (content.left_cut and not everything):
        return False
    before = content.text
    content.text = before.rstrip(SPACE if everything else " \t")
    content.left_cut = content.text != before
    return content.left_cut
