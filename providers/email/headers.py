"""Header lines of a mail, built by hand: folded, encoded where needed (RFC 2047, RFC 2231), never injectable."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from urllib.parse import quote

from providers.contract import PermanentError
from providers.email.addresses import Address

FOLD_AT = 76  # characters; RFC 5322 asks for 78
LINE_LIMIT = 998  # octets a line; RFC 5322, 2.1.1

_NAME = re.compile(r"[!-9;-~]{1,76}")
_PRINTABLE = re.compile(r"[ -~]*")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_WORD_BYTES = 39  # UTF-8 bytes of one encoded word: with 52 of base64 and 12 around it there is room for a short name
_WORD_LENGTH = 64
_RESERVED = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "sender", "return-path", "received"}
    | {"mime-version", "dkim-signature", "delivered-to", "authentication-results"}
)
_RESERVED_PREFIXES = ("content-", "resent-", "arc-", "x-original-to")


def refuse_breaks(*texts: str) -> None:
    """Raise PermanentError(invalid_header) where a text could end its line, or hide what follows."""
    for text in texts:
        if "\n" in text or "\r" in text or "\0" in text:
            raise PermanentError("invalid_header", "a header holds a line break or NUL")


def unstructured(name: str, text: str) -> str:
    """A line of free text, such as the subject. It reads back exactly as given, whatever it is."""
    refuse_breaks(text)
    if _PRINTABLE.fullmatch(text) and "=?" not in text and text == text.strip() and "  " not in text:
        folded = _fold(f"{name}:", text.split(" "))
        if folded is not None:
            return folded
    return _encoded_line(name, text)


def custom(name: str, value: str) -> str:
    """A header of the caller's own. Raises PermanentError(invalid_header) for a reserved name or a broken value.

    Structured values (lists of URLs, ids) stay as they are; only text beyond ASCII is encoded.
    """
    refuse_breaks(name, value)
    lower = name.lower()
    if not _NAME.fullmatch(name) or lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES):
        raise PermanentError("invalid_header", "a header name is reserved or malformed")
    if not _PRINTABLE.fullmatch(value):
        return _encoded_line(name, value)
    folded = _fold(f"{name}:", value.split())
    if folded is None:
        raise PermanentError("invalid_header", "a header value is too long to be sent")
    return folded


def addresses(name: str, people: Iterable[Address]) -> str:
    """`To: A <a@b>, C <c@d>`, one to a line when there are several."""
    return f"{name}: " + ",\r\n ".join(_mailbox(person) for person in people) + "\r\n"


def encoded_words(text: str) -> str:
    """RFC 2047 words in base64 of UTF-8, folded between them. A character is never cut in two."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise PermanentError("invalid_header", "a header holds text that is not Unicode") from None
    words = []
    while raw:
        cut = min(_WORD_BYTES, len(raw))
        while cut < len(raw) and raw[cut] & 0xC0 == 0x80:
            cut -= 1
        words.append("=?utf-8?b?" + binascii.b2a_base64(raw[:cut], newline=False).decode() + "?=")
        raw = raw[cut:]
    return "\r\n ".join(words)


def parameter(name: str, value: str) -> str:
    """`; name="value"` for a MIME header, each on a line of its own; RFC 2231 when it is long or beyond ASCII."""
    refuse_breaks(value)
    if _PRINTABLE.fullmatch(value) and len(value) < 60:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{escaped}"'
    try:
        percent = quote(value, safe="")
    except UnicodeEncodeError:
        raise PermanentError("invalid_header", "a file name is not Unicode") from None
    pieces = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,20}", percent)
    if len(pieces) <= 1:
        return f";\r\n {name}*=utf-8''{percent}"
    first = f";\r\n {name}*0*=utf-8''{pieces[0]}"
    return first + "".join(f";\r\n {name}*{index}*={piece}" for index, piece in enumerate(pieces[1:], 1))


def _encoded_line(name: str, text: str) -> str:
    # A line with an encoded word has at most 76 characters (RFC 2047, 2).
    gap = " " if len(name) + 2 + _WORD_LENGTH <= FOLD_AT else "\r\n "
    return f"{name}:{gap}{encoded_words(text)}\r\n"


def _mailbox(person: Address) -> str:
    if not person.name:
        return person.spec
    name = person.name
    if not _PRINTABLE.fullmatch(name) or "=?" in name or len(name) > FOLD_AT:
        return f"{encoded_words(name)}\r\n <{person.spec}>"
    if _ATOMS.fullmatch(name):
        return f"{name} <{person.spec}>"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{person.spec}>'


def _fold(start: str, words: list[str]) -> str | None:
    """The words in lines of at most 76 characters where they have room; None when a word is longer than any line."""
    lines, line = [], start
    for word in words:
        if len(word) > LINE_LIMIT - 80:
            return None
        if len(line) + 1 + len(word) > FOLD_AT and line != start:
            lines.append(line)
            line = ""
        line += " " + word
    return "\r\n".join([*lines, line]) + "\r\n"
