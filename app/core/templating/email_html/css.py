"""The rules of `<style>` elements written into `style` attributes, because many mail programs know no others.

css-inline does the cascade, on a copy in which every tag is numbered; of its answer only the `style` attributes are
taken over. So the author's own text stays as it was written, tag by tag, and template tags in it are never parsed as
HTML and written anew.
"""

from __future__ import annotations

import re

import css_inline

from .. import limits
from ..errors import RenderError
from .flat import PLACE, Flat, NotStaticError
from .proof import prove
from .tokens import VOID, Mark, has_more, marks, nest

_NUMBER = "data-tidings-tag"
_LARGEST = 500_000  # characters
_WORK = 500_000_000  # comparisons of declarations; about half a second
_TANGLE = 200_000  # elements that unclosed formatting may be repeated in
_FORMATTING = frozenset(
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"]
)
_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False)
_AT_RULES = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)
_STYLE_CONTENT = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)

Edit = tuple[int, int, str]
"""`html[start:end]` becomes the text."""


def inline(html: str) -> str:
    """The HTML with its style sheets in `style` attributes; rules for media and states stay in one `<style>`."""
    return apply(html, edits(html, marks(html)))


def apply(html: str, changes: list[Edit]) -> str:
    """Make the edits, which are in order and do not overlap."""
    pieces, position = [], 0
    for start, end, text in changes:
        pieces += [html[position:start], text]
        position = end
    return "".join(pieces) + html[position:]


def inline_flat(flat: Flat) -> str:
    """The same for a template written out. Raises NotStaticError if the data could change what is inlined."""
    found = marks(flat.html)
    parents = prove(flat, found)
    return apply(flat.html, edits(flat.html, found, parents))


def edits(html: str, found: list[Mark], parents: list[int] | None = None) -> list[Edit]:
    """What inlining changes. Raises RenderError for HTML that is too large or too deep to be looked at.

    With `parents`, the numbers of the elements the marks stand in, it must read like that to css-inline too.
    """
    sheets = [mark for mark in found if mark.kind == "start" and mark.name == "style"]
    if not sheets:
        return []
    css = "\n".join(html[sheet.end : sheet.content_end] for sheet in sheets)
    check(html, found, css)
    changes: list[Edit] = []
    for index, sheet in enumerate(sheets):
        end = _end_of_element(html, sheet)
        kept = kept_rules(css) if index == 0 else ""
        changes.append((sheet.start, end, f"<style>{kept}</style>" if kept else ""))
    styles = _styles(html, found, parents)
    for number, mark in enumerate(found):
        if number in styles:
            changes += _styled(mark, styles[number])
    return sorted(changes)


def kept_rules(css: str) -> str:
    """The at-rules of a style sheet, such as @media: they cannot live in an attribute."""
    kept = _STYLE_CONTENT.search(_AT_RULES.inline(f"<style>{css}</style>"))
    return kept.group(1).strip() if kept else ""


def check(html: str, found: list[Mark], css: str) -> None:
    """css-inline has no bounds of its own.

    Depth kills the process, tangled formatting and endless lists take for ever.
    """
    if len(html) > _LARGEST:
        raise RenderError(f"The HTML is longer than {_LARGEST} characters")
    if has_more(html, found):
        raise RenderError("The HTML has a tag that is not closed, or that has too many attributes")
    declarations = css.count(";") + css.count("{")
    tangle = work = 0
    stack: list[str] = []
    for mark in found:
        nest(stack, mark)
        if mark.kind == "start":
            style = mark.attribute("style")
            own = html.count(";", style.value_start, style.value_end) if style else 0
            work += (declarations + own) ** 2
            tangle += sum(name in _FORMATTING for name in stack)
        if len(stack) > limits.HTML_DEPTH:
            raise RenderError(f"The HTML has elements nested more than {limits.HTML_DEPTH} deep, or not closed")
        if tangle > _TANGLE or work > _WORK:
            raise RenderError("The HTML and its styles are too tangled to be put together")


def _end_of_element(html: str, mark: Mark) -> int:
    end = html.find(">", mark.content_end or mark.end)
    return len(html) if end < 0 else end + 1


def _styles(html: str, found: list[Mark], parents: list[int] | None) -> dict[int, str]:
    """Tag number to the value of its style attribute, after the cascade."""
    changes: list[Edit] = []
    for number, mark in enumerate(found):
        if mark.kind == "other" or mark.name in ("link", "base", "meta"):
            changes.append((mark.start, mark.end, ""))
        elif mark.kind == "start" and mark.name == "script":
            changes.append((mark.end, mark.content_end or mark.end, ""))
        elif mark.kind == "start" and mark.name != "style":
            changes.append((mark.name_end, mark.name_end, f' {_NUMBER}="{number}"'))
    numbered = _INLINER.inline(PLACE.sub("", apply(html, changes)))
    answer = marks(numbered)
    if parents is not None:
        _same_tree(numbered, answer, parents, sum(text.startswith(f" {_NUMBER}") for _, _, text in changes))
    styles: dict[int, str] = {}
    for mark in answer:
        number_of = _number_of(numbered, mark)
        style = mark.attribute("style")
        if number_of is not None and style:
            styles.setdefault(number_of, numbered[style.value_start : style.value_end])
    return styles


def _number_of(numbered: str, mark: Mark) -> int | None:
    tag = mark.attribute(_NUMBER) if mark.kind == "start" else None
    return int(numbered[tag.value_start : tag.value_end]) if tag else None


def _same_tree(numbered: str, answer: list[Mark], parents: list[int], expected: int) -> None:
    """Did css-inline read the elements nested as they are written, none closed or moved by the rules of HTML?"""
    stack: list[int | None] = []
    seen = 0
    for mark in answer:
        if mark.kind == "end" and stack:
            stack.pop()
        if mark.kind != "start":
            continue
        number = _number_of(numbered, mark)
        if number is not None:
            around = next((above for above in reversed(stack) if above is not None), -1)
            seen += 1
            if parents[number] != around:
                raise NotStaticError
        if mark.name not in VOID:
            stack.append(number)
    if seen != expected:
        raise NotStaticError


def _styled(mark: Mark, value: str) -> list[Edit]:
    value = value.strip().removesuffix(";")
    style = mark.attribute("style")
    if style:
        return [(style.start, style.end, f'style="{value}"')]
    return [(mark.name_end, mark.name_end, f' style="{value}"')]
