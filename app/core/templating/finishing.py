"""What is done to a rendered part before it leaves: one line, a checked link, checked JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from .errors import RenderError

_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029]")


def one_line(value: str) -> str:
    """Newlines and control characters become a space: nothing that is rendered can add a header."""
    return _CONTROL.sub(" ", value).strip()


def stripped(value: str) -> str:
    """Without the blanks at both ends, which are a template's layout and cost segments in an SMS."""
    return value.strip()


def checked_json(value: str) -> str:
    """The payload as it is, if it is JSON (RFC 8259)."""
    try:
        json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RenderError(f"The payload is not valid JSON: {error}") from error
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def checked_url(value: str) -> str:
    """A link within the site (`/…`) or to http(s); empty stays empty. Anything else raises RenderError."""
    url = value.strip()
    wrong = RenderError("The action URL must start with / or be an http or https address")
    if _NOT_IN_URL.search(url) or url.startswith("//"):
        raise wrong
    if not url or url.startswith("/"):
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not host:
        raise wrong
    return url


FINISH: dict[tuple[str, str], Callable[[str], str]] = {
    ("email", "subject"): one_line,
    ("email", "text"): stripped,
    ("sms", "text"): stripped,
    ("in_app", "title"): one_line,
    ("in_app", "text"): stripped,
    ("in_app", "actionUrl"): checked_url,
    ("webhook", "payload"): checked_json,
}
"""Channel and part to what is done with the rendered text."""
