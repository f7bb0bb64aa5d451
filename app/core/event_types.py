"""The names of events, and the patterns that speak of many."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 255  # characters

_NAME = re.compile(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*")
_PATTERN = re.compile(rf"{_NAME.pattern}(\.\*)?|\*")


def is_event_type(text: str) -> bool:
    """Whether this can name an event: `order.created`."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether this can choose events: `order.created`, `order.*` or `*`."""
    return len(text) <= MAX_LENGTH and _PATTERN.fullmatch(text) is not None


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of the patterns chooses this event. `order.*` takes any depth below order, and not order itself."""
    return any(
        pattern in ("*", event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )
