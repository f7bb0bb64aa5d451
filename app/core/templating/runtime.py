"""What exists while a message is rendered: the budget, the frames of nested blocks, and the partials in scope."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from . import limits
from .errors import HurryError, LimitError

NOTHING: dict[str, Any] = {}
"""What `this` is inside a block around a null, as in handlebars.js."""


class Run:
    """The budget of one message and what its helpers may know: the recipient's locale and time zone."""

    __slots__ = ("cpu", "deadline", "left", "locale", "mark", "partials", "steps", "time_zone", "until")

    def __init__(self, locale: str = "en", time_zone: str = "UTC", until: float = math.inf) -> None:
        self.steps = limits.STEPS
        self.mark = limits.STEPS
        self.left = limits.OUTPUT
        self.partials = limits.PARTIALS
        self.until = until
        self.deadline = min(time.monotonic() + limits.RENDER_SECONDS, until)
        self.cpu = time.thread_time()
        self.locale = locale
        self.time_zone = time_zone

    def check(self) -> None:
        """Stop if a budget is spent. Looks at the clock: called about once in 200 steps, and by each helper."""
        if self.left < 0:
            raise LimitError(f"The message would be longer than {limits.OUTPUT} characters")
        if self.steps < 0:
            raise LimitError(f"The template takes more than {limits.STEPS} steps with this data")
        # The thread's own time counts, so that a process that was stopped for a while fails no message; it is dearer
        # to ask for, so the clock on the wall is asked first.
        if time.monotonic() > self.deadline:
            self._check_time()
        self.mark = self.steps - 200

    def _check_time(self) -> None:
        if time.monotonic() > self.until:
            raise HurryError("There is no time for it now")
        if time.thread_time() - self.cpu > limits.RENDER_SECONDS:
            raise LimitError(f"The template takes more than {limits.RENDER_SECONDS:g} seconds with this data")

    def spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            self.check()


class Data:
    """The `@` values of a frame; `block` is what `{{> @partial-block}}` renders here."""

    __slots__ = ("block", "parent", "values")

    def __init__(self, values: dict[str, Any], parent: Data | None, block: Bound | None) -> None:
        self.values = values
        self.parent = parent
        self.block = block

    def child(self) -> Data:
        return Data(dict(self.values), self, self.block)


class Frame:
    """Where rendering stands.

    `up` links the outer contexts, `params` the block parameters, `partials` the inline ones.
    """

    __slots__ = ("context", "data", "params", "partials", "run", "up")

    def __init__(self, context: Any, up: Any, data: Data, params: Any, partials: dict[str, Bound], run: Run) -> None:
        self.context = context
        self.up = up
        self.data = data
        self.params = params
        self.partials = partials
        self.run = run


Emit = Callable[[Frame, list[str]], None]
Get = Callable[[Frame], Any]


class Bound:
    """A piece of template that is rendered elsewhere: an inline partial, or the body of a partial block (`is_block`).

    It remembers where it was written: the frame with its block parameters and inline partials, and the contexts that
    `../` steps through. `outer_block` is what `@partial-block` means inside the body.
    """

    __slots__ = ("contexts", "emit", "frame", "is_block", "outer_block")

    def __init__(self, emit: Emit, frame: Frame, contexts: Any, outer_block: Bound | None, is_block: bool) -> None:
        self.emit = emit
        self.frame = frame
        self.contexts = contexts
        self.outer_block = outer_block
        self.is_block = is_block


def written(emit: Emit, frame: Frame) -> str:
    """What a compiled template writes. Raises RenderError."""
    out: list[str] = []
    try:
        emit(frame, out)
    except RecursionError:
        raise LimitError("The template or the data is nested too deep") from None
    frame.run.check()
    return "".join(out)
