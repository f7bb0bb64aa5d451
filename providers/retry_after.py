"""How long a server asks us to wait."""

from __future__ import annotations

import email.utils
from datetime import UTC


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header, in either of its forms (RFC 9110, 10.2.3); None if there is none.

    `now`: unix seconds. A date gone by is 0.
    """
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        when = email.utils.parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
