"""The HTML part of an email."""

from __future__ import annotations

from ..errors import RenderError, TemplateError
from ..library import Sources
from ..runtime import Emit, Frame, written
from ..tree import Program
from . import css, text
from .flat import NotStaticError, flatten, rebuild
from .tokens import marks


class HtmlPart:
    """Renders HTML with its styles inlined, and the text made from it.

    Both are done once, here, if it can be proven that the data makes no difference; else for each message.
    """

    def __init__(self, source: str, tree: Program, html: Sources, plain: Sources | None) -> None:
        """`plain` are the same sources without escaping, to make a text of; None if no text is wanted."""
        self.is_static = True
        self._text: Emit | None = None
        try:
            styled = self._styled(tree, html)
            self._emit = html.template(source, styled)
            if plain:
                self._text = plain.template(source, self._worded(styled, html))
        except NotStaticError:
            self.is_static = False
            self._emit = html.template(source, tree)

    def _styled(self, tree: Program, sources: Sources) -> Program:
        flat = flatten(tree, sources.tree)
        try:
            return rebuild(flat, css.inline_flat(flat))
        except RenderError as error:
            # Too large or too deep whatever the data: the author's to mend.
            raise TemplateError(error.message) from error

    def _worded(self, styled: Program, sources: Sources) -> Program:
        flat = flatten(styled, sources.tree)
        return rebuild(flat, text.marked(flat.html, marks(flat.html)))

    def html(self, frame: Frame) -> str:
        """The HTML, with its style sheets in attributes."""
        rendered = written(self._emit, frame)
        return rendered if self.is_static else css.inline(rendered)

    def text(self, frame: Frame, html: str) -> str:
        """The text part made from the HTML."""
        return text.finish(written(self._text, frame)) if self._text else text.from_html(html)


def finish_html(html: str, plain: str) -> tuple[str, str]:
    """HTML that somebody wrote out: with its styles inlined, and its text part, made from it unless `plain` is one.

    Raises RenderError for HTML that is too large or too deep.
    """
    return css.inline(html), plain or text.from_html(html)
