"""A text part made from the HTML: paragraphs, lists, links as `text (url)`, rows of tables on a line each.

In two steps, so that the first can be done once per template: `marked` replaces tags by control characters, `finish`
lays the result out, when data has been filled in.
"""

from __future__ import annotations

import html as html_module
import re

from .tokens import VOID, Mark, marks

_BREAK, _BLOCK, _CELL, _LINK, _URL, _LINK_END = "\x01", "\x02", "\x03", "\x04", "\x05", "\x06"
_HIDDEN = frozenset(
    [
        "head",
        "style",
        "script",
        "title",
        "template",
        "noscript",
        "svg",
        "math",
        "object",
        "select",
        "textarea",
        "iframe",
    ]
)
_BLOCKS = frozenset(
    [
        "p",
        "div",
        "section",
        "article",
        "header",
        "footer",
        "main",
        "aside",
        "nav",
        "ul",
        "ol",
        "dl",
        "table",
        "blockquote",
        "pre",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "form",
        "address",
        "figure",
        "body",
        "center",
        "fieldset",
    ]
)
_LINES = frozenset(["br", "tr", "li", "dt", "dd", "caption", "figcaption", "thead", "tbody", "tfoot"])
_LINK_PARTS = re.compile("\x04([^\x04-\x06]*)\x05([^\x04-\x06]*)\x06")
_STRAY = re.compile("[\x00\x04-\x06]")
_MARKS = re.compile("[\x01\x02][\x01\x02 ]*")
_INVISIBLE = "\u200b\u200c\u00ad\u034f"  # spacers of preview texts
_ENDLESS = re.compile("&#[0-9]{8,};?")
_DISPLAY_NONE = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)


def from_html(html: str) -> str:
    """The text part of an HTML part."""
    return finish(marked(html, marks(html)))


def marked(html: str, found: list[Mark]) -> str:
    """The HTML's text, with control characters where tags break lines, separate cells and enclose links."""
    out: list[str] = []
    position, hidden, depth_hidden = 0, "", 0
    links: list[str] = []
    for mark in found:
        if not hidden:
            out.append(_plain(html[position : mark.start]))
        position = mark.content_end if mark.content_end is not None else mark.end
        if hidden:
            if mark.name == hidden:
                depth_hidden += (mark.kind == "start") - (mark.kind == "end")
                hidden = hidden if depth_hidden else ""
        elif mark.kind == "start" and mark.name not in VOID and is_hidden(html, mark):
            hidden, depth_hidden = mark.name, 1
        elif mark.kind != "other":
            out.append(_piece(html, mark, links))
    if not hidden:
        out.append(_plain(html[position:]))
    return "".join(out)


def is_hidden(html: str, mark: Mark) -> bool:
    style = mark.attribute("style")
    return (
        mark.name in _HIDDEN
        or mark.attribute("hidden") is not None
        or bool(style and _DISPLAY_NONE.search(html, style.value_start, style.value_end))
    )


def _plain(source: str) -> str:
    """Entities decoded. Python refuses to read endless numbers, so these go first."""
    return html_module.unescape(_ENDLESS.sub("\ufffd", source))


def _piece(html: str, mark: Mark, links: list[str]) -> str:
    name, is_start = mark.name, mark.kind == "start"
    if name == "a":
        return _link(html, mark, links)
    if name == "img" and is_start:
        alt = mark.attribute("alt")
        return _plain(html[alt.value_start : alt.value_end]) if alt else ""
    if name in ("td", "th"):
        return "" if is_start else _CELL
    if name == "li":
        return _BREAK + "- " if is_start else ""
    if name == "hr":
        return _BLOCK + "---" + _BLOCK
    return _BLOCK if name in _BLOCKS else _BREAK if name in _LINES else ""


def _link(html: str, mark: Mark, links: list[str]) -> str:
    """Links do not nest: a second start ends the first."""
    end = _URL + links.pop() + _LINK_END if links else ""
    if mark.kind == "end":
        return end
    href = mark.attribute("href")
    if not href:
        return end
    links.append(_plain(html[href.value_start : href.value_end]))
    return end + _LINK


def finish(text: str) -> str:
    """Lay out what `marked` made: blanks collapse, blocks are an empty line apart, cells two spaces."""
    for char in _INVISIBLE:
        text = text.replace(char, " ")
    text = " ".join(text.split())
    text = _STRAY.sub("", _LINK_PARTS.sub(_written_link, text))
    text = _MARKS.sub(_line_ends, text)
    lines = [_cells(line) for line in text.split("\n")]
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).strip("\n")


def _written_link(match: re.Match[str]) -> str:
    words, url = match.group(1), match.group(2).strip()
    shown = words.strip(" \x01\x02\x03")
    bare = url.removeprefix("mailto:").removeprefix("tel:")
    if not url or url.startswith("#") or shown in (url, bare):
        return words
    return words.replace(shown, f"{shown} ({bare})", 1) if shown else f"{words}{bare}"


def _line_ends(match: re.Match[str]) -> str:
    return "\n\n" if _BLOCK in match.group() else "\n"


def _cells(line: str) -> str:
    if _CELL not in line:
        return line.strip()
    return "  ".join(cell for piece in line.split(_CELL) if (cell := piece.strip()))
