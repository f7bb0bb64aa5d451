"""The names that callers choose: event types and the patterns that speak of many, categories, templates, topics."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_PATTERN = 255  # characters
CATEGORY_FORM = "1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
TOPIC_FORM = "1 to 100 of letters, digits, '.', '_' and '-', beginning with a letter or digit"

_PATTERN = re.compile(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*(\.\*)?|\*")
_CATEGORY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TOPIC = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
_TEMPLATE_KEY = re.compile(r"[a-z0-9][a-z0-9._/-]{0,199}")


def is_pattern(text: str) -> bool:
    """Whether this can choose events: `order.created`, `order.*` or `*`."""
    return len(text) <= MAX_PATTERN and _PATTERN.fullmatch(text) is not None


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of the patterns chooses this event. `order.*` takes any depth below order, and not order itself."""
    return any(
        pattern in ("*", event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )


def is_category(text: str) -> bool:
    """Whether this can name what preferences speak of: `orders`."""
    return _CATEGORY.fullmatch(text) is not None


def is_template_key(text: str) -> bool:
    """Whether this can be the key of a template: `order.created`, `partials/footer`."""
    return _TEMPLATE_KEY.fullmatch(text) is not None and ".." not in text


def is_topic(text: str) -> bool:
    """Whether this can name a list of recipients: `newsletter`."""
    return _TOPIC.fullmatch(text) is not None
