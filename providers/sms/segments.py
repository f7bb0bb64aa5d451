"""How many segments an SMS takes (3GPP TS 23.038 for the alphabet, TS 23.040 for the division)."""

from __future__ import annotations

from dataclasses import dataclass

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")  # each takes an escape besides itself
_GSM7 = _BASIC | _EXTENDED

# (units in a message of one segment, units in each segment of several: the header takes its share)
_LIMITS = {"GSM-7": (160, 153), "UCS-2": (70, 67)}


@dataclass(frozen=True, slots=True)
class Segments:
    """`encoding` is GSM-7 or UCS-2; `units` are septets or UTF-16 units; an empty text is one segment."""

    encoding: str
    units: int
    count: int


def count(text: str) -> Segments:
    """Measure a text. A character of two units is never cut in two, as handsets require."""
    encoding = "GSM-7" if _GSM7.issuperset(text) else "UCS-2"
    widths = [_width(char, encoding) for char in text]
    units = sum(widths)
    single, each = _LIMITS[encoding]
    if units <= single:
        return Segments(encoding, units, 1)
    segments, room = 1, each
    for width in widths:
        if width > room:
            segments, room = segments + 1, each
        room -= width
    return Segments(encoding, units, segments)


def _width(char: str, encoding: str) -> int:
    if encoding == "GSM-7":
        return 2 if char in _EXTENDED else 1
    return 2 if ord(char) > 0xFFFF else 1
