"""Text to tokens, in linear time: where literal text ends and which tag stands there.

What stands inside a tag is the grammar's business; the lexical rules are those of handlebars.js 4.7 (handlebars.l).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import limits
from .errors import TemplateError

SPACE = (
    " \t\n\r\v\f\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript's `\\s` matches; `str.strip()` takes others."""

_INSIDE = re.compile(r"[\"'\[{}]")
_NAME = re.compile(r"[^\s!\"#%-,./;->@\[-^`{-~]+")
_BLOCK_PARAMS = re.compile(r"\sas\s+\|([^|]*)\|$")
_ELSE = re.compile(r"\s*else\b", re.ASCII)
_SIGILS = {
    "#>": "open_partial",
    "#*": "open_inline",
    "#": "open",
    "^": "open_inverse",
    "/": "close",
    ">": "partial",
    "&": "unescaped",
    "*": "decorator",
}


@dataclass(slots=True)
class Text:
    """Literal text, `position` characters into the source."""

    text: str
    position: int


@dataclass(slots=True)
class Tag:
    """One tag.

    `kind`: value, unescaped, comment, open, open_inverse, open_partial, open_inline, else, close, partial, raw.

    `body` is what the grammar will parse, at `body_position`; `params` are the names between `as |` and `|`;
    `strip` says whether `~` stood at the left and at the right; `raw` is the text of a raw block.
    """

    kind: str
    body: str
    position: int
    body_position: int
    strip: tuple[bool, bool] = (False, False)
    params: tuple[str, ...] = ()
    raw: str = ""


Token = Text | Tag


def fault(source: str, position: int, message: str) -> TemplateError:
    """A TemplateError that points at a position in the source."""
    line_start = source.rfind("\n", 0, position) + 1
    return TemplateError(message, source.count("\n", 0, position) + 1, position - line_start + 1)


def scan(source: str) -> list[Token]:
    """Split a template into text and tags. Raises TemplateError."""
    if len(source) > limits.SOURCE:
        raise TemplateError(f"The template is longer than {limits.SOURCE} characters")
    if "\0" in source:
        raise fault(source, source.index("\0"), "A NUL character cannot stand in a template")
    return _Scanner(source).run()


@dataclass(slots=True)
class _Scanner:
    source: str
    tokens: list[Token] = field(default_factory=list)

    def run(self) -> list[Token]:
        position = 0
        while True:
            start = self.source.find("{{", position)
            if start < 0:
                self._text(position, len(self.source))
                return self.tokens
            position = self._text_then_tag(position, start)
            if len(self.tokens) > limits.NODES:
                raise fault(self.source, start, f"The template has more than {limits.NODES} texts and tags")

    def _text(self, start: int, end: int) -> None:
        if end > start:
            self.tokens.append(Text(self.source[start:end], start))

    def _text_then_tag(self, position: int, start: int) -> int:
        source = self.source
        backslashes = 0
        while backslashes < 2 and start - backslashes > position and source[start - backslashes - 1] == "\\":
            backslashes += 1
        if backslashes == 1:
            return self._escaped(position, start)
        # Two backslashes print one, and the tag counts.
        self._text(position, start - 1 if backslashes == 2 else start)
        return self._tag(start)

    def _escaped(self, position: int, start: int) -> int:
        """`\\{{` prints as it stands, up to the next tag or escape."""
        source = self.source
        self._text(position, start - 1)
        end = source.find("{{", start + 2)
        if end < 0:
            end = len(source)
        else:
            for _ in range(2):
                if end - 1 >= start + 2 and source[end - 1] == "\\":
                    end -= 1
        self._text(start, end)
        return end

    def _tag(self, start: int) -> int:
        source = self.source
        if source.startswith("{{{{", start):
            return self._raw_block(start)
        left = source.startswith("~", start + 2)
        inside = start + 2 + left
        if source.startswith("!", inside):
            return self._comment(start, inside, left)
        if source.startswith("{", inside):
            end, right, after = self._end(start, inside + 1, "}")
            self._add("unescaped", start, inside + 1, end, (left, right))
            return after
        end, right, after = self._end(start, inside, "")
        self._add_by_sigil(start, inside, end, (left, right))
        return after

    def _end(self, start: int, position: int, extra: str) -> tuple[int, bool, int]:
        """Where the tag's body ends, whether `~` closes it, and where the text goes on."""
        source = self.source
        while match := _INSIDE.search(source, position):
            position = match.start()
            mark = match.group()
            if mark in "\"'[":
                position = self._past(position, "]" if mark == "[" else mark)
                continue
            if mark == "}":
                return self._close(start, position, extra)
            break
        raise fault(source, start, "The tag is not closed")

    def _close(self, start: int, position: int, extra: str) -> tuple[int, bool, int]:
        source = self.source
        if extra:
            for close, right in (("}}}", False), ("}~}}", True)):
                if source.startswith(close, position):
                    return position, right, position + len(close)
            raise fault(source, start, "The tag is not closed by }}}")
        if source.startswith("}}}", position):
            raise fault(source, position, "There is one } too many; if it belongs to the text, put a space before it")
        if not source.startswith("}}", position):
            raise fault(source, start, "The tag is not closed")
        right = source[position - 1] == "~" and position - 1 > start + 1
        return position - right, right, position + 2

    def _past(self, position: int, close: str) -> int:
        source, end = self.source, position
        while True:
            end = source.find(close, end + 1)
            if end < 0:
                raise fault(source, position, f"There is no closing {close}")
            if source[end - 1] != "\\" or end - 1 == position:
                return end + 1

    def _comment(self, start: int, inside: int, left: bool) -> int:
        source = self.source
        position = inside + 1
        if source.startswith("--", position):
            # {{!--}} is a whole comment: the dashes that open it may close it.
            while (position := source.find("--", position)) >= 0:
                for close, right in (("--}}", False), ("--~}}", True)):
                    if source.startswith(close, position):
                        self.tokens.append(Tag("comment", "", start, inside, (left, right)))
                        return position + len(close)
                position += 1
            raise fault(source, start, "The comment is not closed by --}}")
        end = source.find("}}", position)
        if end < 0:
            raise fault(source, start, "The comment is not closed")
        self.tokens.append(Tag("comment", "", start, inside, (left, source[end - 1] == "~")))
        return end + 2

    def _raw_block(self, start: int) -> int:
        """`{{{{name}}}} anything {{{{/name}}}}`; raw blocks inside raw blocks are text, but counted."""
        source = self.source
        close = source.find("}}}}", start)
        head = source[start + 4 : close] if close >= 0 else ""
        name = _NAME.match(head.strip(SPACE))
        if close < 0 or not name or "{{" in head:
            raise fault(source, start, "This is not the start of a raw block")
        position, depth = close + 4, 1
        while (position := source.find("{{{{", position)) >= 0:
            if not source.startswith("/", position + 4):
                depth += 1
                position += 4
                continue
            depth -= 1
            end = source.find("}}}}", position)
            if end < 0:
                break
            if depth == 0:
                if source[position + 5 : end] != name.group():
                    raise fault(source, position, f"The raw block {name.group()} is closed by another name")
                self._add("raw", start, start + 4, close, (False, False), source[close + 4 : position])
                return end + 4
            position = end + 4
        raise fault(source, start, f"The raw block {name.group()} is not closed")

    def _add_by_sigil(self, start: int, inside: int, end: int, strip: tuple[bool, bool]) -> None:
        source = self.source
        two, one = source[inside : min(inside + 2, end)], source[inside : min(inside + 1, end)]
        sigil = two if two in _SIGILS else one if one in _SIGILS else ""
        kind = _SIGILS.get(sigil, "value")
        if not sigil and (match := _ELSE.match(source, inside, end)):
            kind, inside = "else", match.end()
        elif kind == "open_inverse" and not source[inside + 1 : end].strip(SPACE):
            kind, inside = "else", end
        else:
            inside += len(sigil)
        if kind == "decorator":
            raise fault(source, start, "Decorators other than #*inline are not supported")
        self._add(kind, start, inside, end, strip)

    def _add(self, kind: str, start: int, inside: int, end: int, strip: tuple[bool, bool], raw: str = "") -> None:
        source = self.source
        if end - inside > limits.TAG:
            raise fault(source, start, f"The tag is longer than {limits.TAG} characters")
        while inside < end and source[inside] in SPACE:
            inside += 1
        body = source[inside:end].rstrip(SPACE)
        params: tuple[str, ...] = ()
        if body.endswith("|") and (match := _BLOCK_PARAMS.search(body)):
            if kind not in ("open", "open_inverse", "else"):
                raise fault(source, start, "Only a block can name its parameters with as |…|")
            params = self._names(start, match.group(1))
            body = body[: match.start()].rstrip(SPACE)
        if not body and kind != "else":
            raise fault(source, start, "The tag is empty")
        self.tokens.append(Tag(kind, body, start, inside, strip, params, raw))

    def _names(self, start: int, text: str) -> tuple[str, ...]:
        names = tuple(text.split())
        if not names or not all(_NAME.fullmatch(name) for name in names):
            raise fault(self.source, start, "The names between as | and | are not block parameters")
        return names
