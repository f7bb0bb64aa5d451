"""Does the way HTML is styled depend on the data? Only where the answer is certainly no, it is styled once per
template.

Looks at a template written out (`flat`): tags stand only in the text and in quoted attributes that no selector asks
for, every branch and loop leaves the same element open that it found, elements are properly nested, and selectors
look only upwards.
"""

from __future__ import annotations

import re

from ..tree import Mustache
from .flat import PLACE, Flat, NotStaticError
from .tokens import VOID, Mark

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|<!--|-->", re.DOTALL)
_STATE = re.compile(r":(?:hover|visited|link|active|focus)\b")
_BRACES = re.compile(r"[{};]")
_SPLIT_ENTITY = re.compile("&[#A-Za-z0-9]*[\U000f0000-\U000ffffd]")
_ASKED_FOR = frozenset({"class", "id", "style", "hidden"})

Zone = tuple[str, int]
"""Where a private character stands: in the content of an element, or in an attribute of a tag, by number."""


def prove(flat: Flat, found: list[Mark]) -> list[int]:
    """The number of the element each mark stands in (-1: none). Raises NotStaticError."""
    html = flat.html
    if _SPLIT_ENTITY.search(html):
        raise NotStaticError
    for place in flat.places:
        if isinstance(place.node, Mustache) and not place.node.escaped:
            raise NotStaticError
    for mark in found:
        if mark.kind == "start" and mark.name == "style":
            _selectors_look_up(html[mark.end : mark.content_end])
    parents, zones = _zones(flat, found)
    _balanced(flat, zones)
    return parents


def _selectors_look_up(css: str) -> None:
    """A selector may ask for names, classes, ids and what stands above, not for attributes or neighbours."""
    css = _COMMENT.sub(" ", css)
    if PLACE.search(css):
        raise NotStaticError
    depth, start, in_at_rule = 0, 0, False
    for brace in _BRACES.finditer(css):
        if brace.group() == "{":
            selector = css[start : brace.start()].strip()
            if depth == 0:
                in_at_rule = selector.startswith("@")
            if not in_at_rule and (depth > 0 or re.search(r"[\[+~:\\&]", _STATE.sub("", selector))):
                raise NotStaticError
            depth += 1
        elif brace.group() == "}":
            depth -= 1
            if depth < 0:
                raise NotStaticError
        if depth == 0:
            start = brace.end()
    if depth:
        raise NotStaticError


def _zones(flat: Flat, found: list[Mark]) -> tuple[list[int], dict[str, Zone]]:
    html, zones, parents = flat.html, {}, []
    stack: list[int] = []
    position = 0
    for number, mark in enumerate(found):
        here = ("content", stack[-1] if stack else -1)
        if "<" in html[position : mark.start]:
            raise NotStaticError  # with the data behind it, it could be a tag
        zones.update(dict.fromkeys(PLACE.findall(html, position, mark.start), here))
        parents.append(here[1])
        _tag_zones(html, number, mark, zones)
        position = mark.end
        if mark.content_end is not None:
            zones.update(dict.fromkeys(PLACE.findall(html, mark.end, mark.content_end), ("opaque", number)))
            position = mark.content_end
        if mark.kind == "start" and mark.name not in VOID:
            stack.append(number)
        elif mark.kind == "end" and (not stack or found[stack.pop()].name != mark.name):
            raise NotStaticError
    if stack or "<" in html[position:]:
        raise NotStaticError
    zones.update(dict.fromkeys(PLACE.findall(html, position), ("content", -1)))
    return parents, zones


def _tag_zones(html: str, number: int, mark: Mark, zones: dict[str, Zone]) -> None:
    if mark.kind == "other":
        zones.update(dict.fromkeys(PLACE.findall(html, mark.start, mark.end), ("other", number)))
        return
    inside = PLACE.findall(html, mark.start, mark.end)
    for index, attribute in enumerate(mark.attributes):
        places = PLACE.findall(html, attribute.value_start, attribute.value_end)
        if places and (html[attribute.value_start - 1] not in "\"'" or attribute.name in _ASKED_FOR):
            raise NotStaticError
        zones.update(dict.fromkeys(places, (f"attribute {index}", number)))
        del inside[: len(places)]
    if inside:
        raise NotStaticError


def _balanced(flat: Flat, zones: dict[str, Zone]) -> None:
    """Each block opens, turns and closes in one and the same zone."""
    open_now: list[Zone] = []
    for char in PLACE.findall(flat.html):
        kind, zone = flat.place(char).kind, zones[char]
        if kind in ("open", "body"):
            open_now.append(zone)
        elif kind != "leaf" and open_now[-1] != zone:
            raise NotStaticError
        if kind in ("close", "body_close"):
            open_now.pop()
