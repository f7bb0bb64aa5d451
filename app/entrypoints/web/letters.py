"""A caught message as pages and JSON show it. Everything in it may have been written by an enemy."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

MAX_LINKS = 500
_SCANNED = 1_000_000  # characters of a part that are searched for links
_PREVIEW = 140  # characters
_LABEL = 300  # characters of a link's source that can become its label
_VIEWS = {
    "html": "HTML",
    "text": "Text",
    "headers": "Headers",
    "links": "Links",
    "files": "Attachments",
    "source": "Source",
}
_SMS_VIEWS = {"text": "Message", "links": "Links"}
_ALWAYS = ("text", "headers", "links")  # the others when the message has them
_COUNTED = ("links", "files")
_OPENED = ("http://", "https://", "mailto:", "tel:", "sms:")

# Possessive and stopped by the next "<", so that every pattern is linear on any text.
_ANCHOR = re.compile(r"""<(?:a|area)\b((?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+)>""", re.IGNORECASE)
_HREF = re.compile(r"""(?<![^\s"'/])href\s{0,20}=\s{0,20}("[^"]*+"|'[^']*+'|[^\s"'>]++)""", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*+>?")
_IMAGE = re.compile(r"<(?:img|image|input)\b|url\(|\bbackground\s{0,9}=", re.IGNORECASE)
_UNSEEN = re.compile(r"<(style|script|title)\b.*?(?:</\1[^>]*>|$)", re.IGNORECASE | re.DOTALL)  # for short pieces
_URL = re.compile(r"""\bhttps?://[^\s<>"'`]++""", re.IGNORECASE)
# These could speak to the network, or turn our own <base> and headers around, without a script: Chromium connects to
# the target of a frame before the policy refuses it. In an attribute or a comment the change is harmless, and a start
# tag is spelled in no other way.
_MEDDLERS = re.compile(r"<(?=(?:link|meta|base|i?frame|frameset|object|embed|portal|fencedframe)\b)", re.IGNORECASE)


class Caught(Protocol):
    """What the catcher kept of a message."""

    id: str
    channel: str
    time: str
    sender: str
    to: str
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    reply_to: str | None
    subject: str
    text: str
    html: str
    headers: Mapping[str, str]
    attachments: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Link:
    """One link: where it goes and what it says. `opened`: harmless enough to be clicked."""

    target: str
    label: str
    opened: bool


def summary(caught: Caught) -> dict[str, str]:
    """What a list shows of a message; `time` as it is kept, `shownTime` (UTC) for the eye."""
    words = " ".join((caught.text or visible(caught.html[:4_000]))[:1_000].split())
    return {
        "id": caught.id,
        "channel": caught.channel,
        "to": _encodable(caught.to),
        "subject": _encodable(caught.subject),
        "preview": _encodable(words[:_PREVIEW]),
        "time": caught.time,
        "shownTime": shown_time(caught.time, "%d %b, %H:%M:%S"),
    }


def letter(caught: Caught, asked: str) -> dict[str, Any]:
    """All that the page of one message shows: its parts, its views, and of these the one `asked` for or the first."""
    found = links(caught)
    sizes = {
        "html": len(caught.html),
        "source": len(caught.html),
        "files": len(caught.attachments),
        "links": len(found),
    }
    names = _VIEWS if caught.channel == "email" else _SMS_VIEWS
    views = [
        (name, label, sizes[name] if name in _COUNTED else None)
        for name, label in names.items()
        if name in _ALWAYS or sizes[name]
    ]
    return {
        "caught": caught,
        "shown_time": shown_time(caught.time),
        "links": found,
        "headers": _headers(caught),
        "views": views,
        "pictured": bool(_IMAGE.search(caught.html)),
        "view": asked if any(asked == name for name, *_ in views) else views[0][0],
    }


def shown_time(kept: str, pattern: str = "%d %b %Y, %H:%M:%S UTC") -> str:
    """A time for the eye: `20 Nov 2026, 07:08:09 UTC`."""
    try:
        return datetime.fromisoformat(kept).astimezone(UTC).strftime(pattern)
    except ValueError:
        return kept


def framed(source: str) -> str:
    """The HTML part for the frame: its links open new tabs, and what could fetch without a script is disarmed."""
    return '<!doctype html><base target="_blank">' + _MEDDLERS.sub("<x-", source)


def links(caught: Caught) -> list[Link]:
    """Every link of both parts, each target once, in the order they come; the first MAX_LINKS."""
    found: dict[str, str] = {}
    source = caught.html[:_SCANNED]
    for anchor in _ANCHOR.finditer(source):
        if href := _HREF.search(anchor[1]):
            label = source[anchor.end() : anchor.end() + _LABEL]
            end = label.lower().find("</a")
            found.setdefault(_plain(href[1].strip("\"'")), visible(label[: end if end >= 0 else None]))
        if len(found) >= MAX_LINKS:
            break
    for match in _URL.finditer(caught.text[:_SCANNED]):
        if len(found) >= MAX_LINKS:
            break
        found.setdefault(match[0].rstrip(".,;:!?)]}"), "")
    return [Link(target, label, target.lower().startswith(_OPENED)) for target, label in found.items()]


def visible(source: str) -> str:
    """The words of a short piece of HTML, on one line."""
    return " ".join(html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", source))).split())


def _plain(href: str) -> str:
    """An href as a browser reads it: entities resolved, tabs, line ends and outer blanks dropped."""
    return re.sub(r"[\t\r\n]", "", html.unescape(href)).strip("".join(map(chr, range(33))))


def _headers(caught: Caught) -> list[tuple[str, str]]:
    """The header as the receiver's program would show it; only Bcc would be missing there."""
    known = {
        "Date": shown_time(caught.time),
        "From": caught.sender,
        "To": caught.to,
        "Cc": ", ".join(caught.cc),
        "Bcc": ", ".join(caught.bcc),
        "Reply-To": caught.reply_to or "",
        "Subject": caught.subject,
    }
    return [(name, value) for name, value in known.items() if value] + list(caught.headers.items())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
