"""How printed values are made safe for where they stand."""

from __future__ import annotations

import json
import re

_HTML = {
    ord(char): entity
    for char, entity in zip("&<>\"'`=", ("&amp;", "&lt;", "&gt;", "&quot;", "&#x27;", "&#x60;", "&#x3D;"), strict=True)
}
_NEEDS_HTML = re.compile("[&<>\"'`=]").search


def html(value: str) -> str:
    """The seven characters of handlebars.js."""
    return value.translate(_HTML) if _NEEDS_HTML(value) else value


def in_json_string(value: str) -> str:
    """For the inside of a JSON string: no value can end the string it stands in."""
    return json.dumps(value, ensure_ascii=False)[1:-1]
