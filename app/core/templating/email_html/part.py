"""The HTML part of an email."""

from __future__ import annotations

from ..library import Sources
from ..runtime import Frame, written
from ..tree import Program
from . import css, text


class HtmlPart:
    """Renders HTML with its styles inlined, and the text made from it."""

    def __init__(self, source: str, tree: Program, sources: Sources, plain: Sources) -> None:
        self._emit = sources.template(source, tree)

    def html(self, frame: Frame) -> str:
        """The HTML, with its style sheets in attributes."""
        return css.inline(written(self._emit, frame))

    def text(self, frame: Frame, html: str) -> str:
        """The text part made from the HTML."""
        return text.from_html(html)
