"""The three errors a template can end in. `TemplateError` is the author's to fix; two others are the data's.

`HurryError` is none of them: the caller was in a hurry.
"""

from __future__ import annotations


class TemplateError(ValueError):
    """The template itself is wrong: it cannot be saved, previewed or sent.

    `line` and `column` count from 1; `part` says which part of the message ("html"), `partial` which partial of it.
    """

    def __init__(
        self, message: str, line: int = 1, column: int = 1, part: str | None = None, partial: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.part = part
        self.partial = partial

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}"
        places = [self.part, f"partial {self.partial}" if self.partial else None, where]
        return f"{self.message} ({', '.join(place for place in places if place)})"


class RenderError(ValueError):
    """The template is sound, but cannot be rendered with this data. `part` says in which part of the message."""

    def __init__(self, message: str, part: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.part = part

    def __str__(self) -> str:
        return f"{self.message} ({self.part})" if self.part else self.message


class LimitError(RenderError):
    """Rendering was stopped: it took too many steps, too much output, too much depth or too much time."""


class HurryError(Exception):
    """Rendering was stopped because its caller has no more time for it now. Nobody's fault: it may be begun again."""
