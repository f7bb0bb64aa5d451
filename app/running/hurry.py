"""The first SIGTERM or SIGINT asks for an orderly end; a second one ends at once, as kill -9 would.

Read by path: imports nothing but the standard library.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

# What ends a whole group of processes at once may reach one of them twice: that is one wish, not two.
ONE_WISH_SECONDS = 0.5


def on_signals(ask: Callable[[], None], end: Callable[[], None]) -> None:
    """Have `ask` called at the first SIGTERM or SIGINT and `end` at the next. In the main thread."""
    first = 0.0

    def heard(_number: int, _frame: Any) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
            ask()
        elif time.monotonic() - first > ONE_WISH_SECONDS:
            end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)
