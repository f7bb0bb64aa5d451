"""HTML text to tags, in linear time, as far as styling and plain text need it.

Nothing is ever rewritten, only found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
_OPAQUE = frozenset(["style", "script", "title", "textarea", "xmp", "iframe", "noembed", "noframes"])
_CLOSED_BY = {
    "p": ("p",),
    "li": ("p", "li"),
    "dt": ("p", "dt", "dd"),
    "dd": ("p", "dt", "dd"),
    "td": ("p", "td", "th"),
    "th": ("p", "td", "th"),
    "tr": ("p", "td", "th", "tr"),
    "option": ("option",),
}
_OPTIONAL_END = frozenset({"p", "li", "dt", "dd", "td", "th", "tr", "thead", "tbody", "tfoot", "option"})
_TAG = re.compile(r"<(/?)([A-Za-z][^\s/>]*)|<!--|<[!?]")
_ATTRIBUTE = re.compile(r"[\s/]*([^\s/>=][^\s/>=]*)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"'][^\s>]*|(?=[\s>]))))?")
_CLOSE = re.compile(r"[\s/]*>")


@dataclass(frozen=True, slots=True)
class Attribute:
    """`html[start:end]` is the whole of it, `html[value_start:value_end]` its value (empty if it has none)."""

    name: str
    start: int
    end: int
    value_start: int
    value_end: int


@dataclass(slots=True)
class Mark:
    """One tag.

    Kind start, end or other (comment, doctype). `content_end` is where the content of a style, script … ends.
    """

    kind: str
    name: str
    start: int
    end: int
    name_end: int = 0
    attributes: list[Attribute] = field(default_factory=list)
    content_end: int | None = None

    def attribute(self, name: str) -> Attribute | None:
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


def marks(html: str) -> list[Mark]:
    """Every tag, comment and doctype, in order. What is broken at the end counts as text."""
    found: list[Mark] = []
    position = 0
    closing: dict[str, int] = {}
    while match := _TAG.search(html, position):
        start = match.start()
        name = (match.group(2) or "").lower()
        if not name:
            end = _other_end(html, start, match.group() == "<!--")
            found.append(Mark("other", "", start, end))
        elif match.group(1):
            end = html.find(">", match.end())
            end = len(html) if end < 0 else end + 1
            found.append(Mark("end", name, start, end, match.end()))
        else:
            mark = _start(html, name, start, match.end())
            if mark is None:
                return found
            found.append(mark)
            end = mark.end
            if name in _OPAQUE:
                mark.content_end = end = _content_end(html, name, end, closing)
        position = end
    return found


def has_more(html: str, found: list[Mark]) -> bool:
    """Did `marks` give up at a broken tag, with HTML behind it?"""
    last = found[-1] if found else None
    position = (last.end if last.content_end is None else last.content_end) if last else 0
    return bool(_TAG.search(html, position))


def nest(stack: list[str], mark: Mark) -> None:
    """Keep the stack of open elements, never shorter than a browser's: an end that fits nothing closes nothing."""
    if mark.kind == "start" and mark.name not in VOID:
        closes = _CLOSED_BY.get(mark.name, ())
        while stack and stack[-1] in closes:
            stack.pop()
        stack.append(mark.name)
    elif mark.kind == "end":
        kept = len(stack)
        while kept and stack[kept - 1] != mark.name and stack[kept - 1] in _OPTIONAL_END:
            kept -= 1
        if kept and stack[kept - 1] == mark.name:
            del stack[kept - 1 :]


def _other_end(html: str, start: int, is_comment: bool) -> int:
    end = html.find("-->", start + 4) if is_comment else html.find(">", start)
    return len(html) if end < 0 else end + (3 if is_comment else 1)


def _start(html: str, name: str, start: int, name_end: int) -> Mark | None:
    mark = Mark("start", name, start, 0, name_end)
    position = name_end
    while not (close := _CLOSE.match(html, position)):
        match = _ATTRIBUTE.match(html, position)
        if not match or len(mark.attributes) >= 100:
            return None
        group = match.lastindex or 1
        value = match.span(group) if group > 1 else (match.end(), match.end())
        mark.attributes.append(Attribute(match.group(1).lower(), match.start(1), match.end(), *value))
        position = match.end()
    mark.end = close.end()
    return mark


def _content_end(html: str, name: str, position: int, known: dict[str, int]) -> int:
    """Where `</name` stands, or the end. Remembered, so that many unclosed elements do not each search to the end."""
    if known.get(name, -1) < position:
        match = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(html, position)
        known[name] = match.start() if match else len(html)
    return known[name]
