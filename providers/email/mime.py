"""A message as the bytes of a mail. The same message gives the same bytes on every attempt.

Built by hand from binascii's primitives: `email.message.EmailMessage` costs 500 to 1,000 µs a mail, this about 50.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from providers.contract import Attachment, OutboundMessage, PermanentError
from providers.email import headers
from providers.email.addresses import Address, parse_address

_PLAIN = b"\t\n" + bytes(range(0x20, 0x7F))
_BOUNDARY_MARK = b"=_"  # quoted-printable and base64 can never hold it, and plain text that does is encoded
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}(; ?[ -~]{0,200})?", re.I)
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_COMPOSITE = ("multipart/", "message/")
_CACHED_CHARS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail and its envelope. `needs_utf8`: only a server with SMTPUTF8 can take it. `to` is among `recipients`."""

    sender: str
    to: str
    recipients: tuple[str, ...]
    message_id: str
    content: bytes
    needs_utf8: bool


def build(message: OutboundMessage, default_sender: str) -> Mail:
    """Lay out a message: text and HTML as alternatives, inline pictures beside the HTML, files around them.

    Raises PermanentError: no_recipient, invalid_address, invalid_header, invalid_attachment, invalid_text.
    """
    if not message.to.strip():
        raise PermanentError("no_recipient", "the message has no address to go to")
    sender = parse_address(message.sender or default_sender)
    to = parse_address(message.to)
    cc = [parse_address(text) for text in message.cc]
    everybody = [to, *cc, *(parse_address(text) for text in message.bcc)]
    reply_to = [parse_address(message.reply_to)] if message.reply_to else []
    message_id = _message_id(message.delivery_id, sender)
    head = [
        headers.addresses("From", [sender]),
        headers.addresses("To", [to]),
        headers.addresses("Cc", cc) if cc else "",
        headers.addresses("Reply-To", reply_to) if reply_to else "",
        headers.unstructured("Subject", message.subject) if message.subject else "",
        f"Message-ID: {message_id}\r\nDate: {_date(message.created_at)}\r\nMIME-Version: 1.0\r\n",
        *(headers.custom(name, value) for name, value in message.headers.items()),
    ]
    return Mail(
        sender=sender.spec,
        to=to.spec,
        recipients=tuple(dict.fromkeys(person.spec for person in everybody)),
        message_id=message_id,
        content="".join(head).encode() + _body(message),
        needs_utf8=any(person.needs_utf8 for person in (sender, *everybody, *reply_to)),
    )


def _message_id(delivery_id: str, sender: Address) -> str:
    if not delivery_id or not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", delivery_id):
        raise PermanentError("invalid_header", "the delivery id cannot stand in a Message-ID")
    return f"<{delivery_id}@{sender.domain}>"


@lru_cache(maxsize=1024)
def _date(when: datetime) -> str:
    return format_datetime(when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC))


def _body(message: OutboundMessage) -> bytes:
    """The mail after its own headers: the MIME headers of the outermost part, and all parts."""
    inline = [file for file in message.attachments if file.content_id and message.html]
    files = [file for file in message.attachments if not (file.content_id and message.html)]
    boundary = _BOUNDARY_MARK.decode() + hashlib.blake2s(message.delivery_id.encode(), digest_size=12).hexdigest()
    part = _text("html", message.html) if message.html else b""
    if inline:
        part = _multipart("related", boundary + "_r", [part, *(_file(file, "inline") for file in inline)])
    if part and message.text:
        part = _multipart("alternative", boundary + "_a", [_text("plain", message.text), part])
    part = part or _text("plain", message.text)
    if files:
        part = _multipart("mixed", boundary + "_m", [part, *(_file(file, "attachment") for file in files)])
    return part


def _multipart(kind: str, boundary: str, parts: list[bytes]) -> bytes:
    start = f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode()
    line = f"--{boundary}\r\n".encode()
    return start + b"".join(line + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def _text(subtype: str, text: str) -> bytes:
    return _cached_text(subtype, text) if len(text) <= _CACHED_CHARS else _encoded_text(subtype, text)


def _encoded_text(subtype: str, text: str) -> bytes:
    """A text part: as it is when every server carries it so, else the shorter of the two encodings."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise PermanentError("invalid_text", "the text is not Unicode") from None
    encoding, body = _transfer_encoded(raw, beyond_ascii=len(raw) - len(text))
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body.replace(b"\n", b"\r\n")


# In a fan-out many mails share a part; what does not differ from one recipient to the next is made once.
_cached_text = lru_cache(maxsize=64)(_encoded_text)


def _transfer_encoded(raw: bytes, beyond_ascii: int) -> tuple[str, bytes]:
    """(encoding, lines ended by a bare line feed)."""
    if not raw.translate(None, _PLAIN) and _BOUNDARY_MARK not in raw:
        if max(map(len, raw.split(b"\n"))) < headers.LINE_LIMIT:
            return "7bit", raw
    # Each byte beyond ASCII takes three in quoted-printable; base64 takes four for three of anything.
    elif beyond_ascii > len(raw) // 4:
        return "base64", _base64_lines(raw.replace(b"\n", b"\r\n"))
    return "quoted-printable", binascii.b2a_qp(raw, istext=True)


def _base64_lines(raw: bytes) -> bytes:
    """Base64 in lines of 76, ended by a bare line feed."""
    return b"".join(binascii.b2a_base64(raw[at : at + 57]) for at in range(0, len(raw), 57))


def _file(file: Attachment, disposition: str) -> bytes:
    kind = file.content_type.strip() or "application/octet-stream"
    if not _CONTENT_TYPE.fullmatch(kind):
        raise PermanentError("invalid_attachment", "an attachment's content type is malformed")
    if kind.lower().startswith(_COMPOSITE):
        kind = "application/octet-stream"  # a composite type may not be sent as base64 (RFC 2046, 5.2.1)
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: {disposition}"
    headers.refuse_breaks(file.filename)
    filename = file.filename.strip()
    head += headers.parameter("filename", filename) + "\r\n" if filename else "\r\n"
    if file.content_id:
        content_id = file.content_id.removeprefix("<").removesuffix(">")
        if not _CONTENT_ID.fullmatch(content_id):
            raise PermanentError("invalid_attachment", "an attachment's content id is malformed")
        head += f"Content-ID: <{content_id}>\r\n"
    return (head + "\r\n").encode() + _base64_lines(file.content).replace(b"\n", b"\r\n")
