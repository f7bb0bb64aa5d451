"""The fields of direct sends: addresses, headers, files and links, refused here rather than by a provider."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from marshmallow import ValidationError, fields

from app.core import channels, webhooks
from app.entrypoints.api.common import runtime
from app.entrypoints.api.parsing import MOST_ERRORS
from app.errors import InvalidError
from providers.contract import PermanentError
from providers.email.addresses import parse_address
from providers.email.headers import custom
from providers.sms.numbers import normalise

MAX_ADDRESS = 1_000
MAX_TO = 1_000
MAX_HEADERS = 50
MAX_ATTACHMENTS = 20
MAX_LINK = 2_048
MAX_COPIED = 52_428_800
"""Most bytes of content in one direct send, times its addresses: each address gets a stored copy of its own."""
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_CONTENT_ID = re.compile(r"[!-~]{1,200}")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")


class Mailbox(fields.String):
    """`ada@example.com` or `Ada <ada@example.com>`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"maxLength": MAX_ADDRESS, "examples": ["Ada <ada@example.com>"]}, **options)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_ADDRESS:
            raise ValidationError("is not an email address")
        try:
            parse_address(value)
        except PermanentError:
            raise ValidationError("is not an email address") from None
        return value.strip()


class Phone(fields.String):
    """A number as +4915112345678; other spellings with a country code are brought into this one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"examples": ["+4915112345678"]}, **options)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        try:
            return normalise(value if isinstance(value, str) else "")
        except PermanentError:
            raise ValidationError("is not a phone number such as +4915112345678") from None


class OneOrMany(fields.Field[list[Any]]):
    """One value, or a list of them; what comes twice is taken once."""

    def __init__(self, inner: fields.Field[Any], most: int, **options: Any) -> None:
        one = {"type": "string", **inner.metadata}
        metadata = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": most}]}
        super().__init__(metadata=metadata, **options)
        self._inner = inner
        self._most = most

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            return [self._inner.deserialize(value)]
        if not 1 <= len(value) <= self._most:
            raise ValidationError(f"must have 1 to {self._most} items")
        found, faults = [], {}
        for index, item in enumerate(value):
            try:
                found.append(self._inner.deserialize(item))
            except ValidationError as error:
                faults[index] = error.messages
        if faults:
            raise ValidationError(faults)
        return list(dict.fromkeys(found))


class Headers(fields.Dict):
    """Headers of the caller's own; those that make up a mail are not theirs to set."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> dict[str, str]:
        if not isinstance(value, Mapping) or len(value) > MAX_HEADERS:
            raise ValidationError(f"is not an object of at most {MAX_HEADERS} headers")
        faults = {name: [why] for name, text in value.items() if (why := _header_fault(name, text))}
        if faults:
            raise ValidationError(faults)
        return dict(value)


def _header_fault(name: str, text: Any) -> str | None:
    if not isinstance(text, str):
        return "is not text"
    try:
        custom(name, text)
    except PermanentError as error:
        return error.message
    return None


class Attachments(fields.Field[list[dict[str, Any]]]):
    """Files: [{filename, content (base64), contentType, contentId}]."""

    def __init__(self, **options: Any) -> None:
        item = {
            "type": "object",
            "required": ["filename", "content"],
            "additionalProperties": False,
            "properties": {
                "filename": {"type": "string", "minLength": 1, "maxLength": 255},
                "content": {"type": "string", "contentEncoding": "base64"},
                "contentType": {"type": "string", "examples": ["application/pdf"]},
                "contentId": {"type": "string", "description": "For `cid:` links of the HTML."},
            },
        }
        super().__init__(metadata={"type": "array", "items": item, "maxItems": MAX_ATTACHMENTS}, **options)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or len(value) > MAX_ATTACHMENTS:
            raise ValidationError(f"is not a list of at most {MAX_ATTACHMENTS} files")
        faults = {index: found for index, item in enumerate(value) if (found := _file_faults(item))}
        if faults:
            raise ValidationError(faults)
        return list(value)


_FILE: dict[str, tuple[bool, Any, str]] = {
    "filename": (True, lambda text: _FILE_NAME.fullmatch(text), "is not a plain file name of 1 to 255 characters"),
    "content": (True, lambda text: _is_base64(text), "is not base64"),
    "contentType": (False, lambda text: _MEDIA_TYPE.fullmatch(text), "is not a media type such as application/pdf"),
    "contentId": (False, lambda text: _CONTENT_ID.fullmatch(text), "is not 1 to 200 printable ASCII characters"),
}


def _file_faults(item: Any) -> dict[str, list[str]]:
    if not isinstance(item, Mapping):
        return {"filename": ["is required"]}
    unknown = islice((str(name) for name in item if name not in _FILE), MOST_ERRORS)
    faults = {name: ["is not known"] for name in unknown}
    for name, (required, right, otherwise) in _FILE.items():
        if name not in item:
            if required:
                faults[name] = ["is required"]
        elif not isinstance(item[name], str) or not right(item[name]):
            faults[name] = [otherwise]
    return faults


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


class TargetUrl(fields.String):
    """Where a webhook goes. The name is looked up: private addresses are refused unless the operator admits them."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("is not text")
        try:
            webhooks.check_target(value, channels.reachable_ranges(runtime().settings))
        except InvalidError as error:
            raise ValidationError(next(iter(error.fields.values()))) from None
        return value


class Link(fields.String):
    """Where a notification leads: a path of the caller's own site (`/orders/7`), or http(s)."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_LINK or not is_safe_link(value):
            raise ValidationError("is neither a path such as /orders/7 nor an http(s) URL")
        return value


def is_safe_link(value: str) -> bool:
    """Whether a browser takes this for a path of the same site or an http(s) URL, and for nothing else."""
    if _UNSAFE.search(value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    if parts.scheme:
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    return not parts.netloc and ":" not in value.split("/", 1)[0] and not value.startswith("//")
