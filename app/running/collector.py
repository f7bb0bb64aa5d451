"""Python's collector of cycles, for processes that make many short-lived objects and few cycles.

Read by path: imports nothing but the standard library.
"""

from __future__ import annotations

import gc

_NEW_OBJECTS = 50_000  # Python's own 700 is a tenth of a second of CPU in every second of delivering


def calm() -> None:
    """Leave alone what is there after the start, and look for cycles seldom. Once the application stands."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
