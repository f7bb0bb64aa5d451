"""Signatures by the Standard Webhooks scheme 1.0.0 (https://www.standardwebhooks.com), symmetric form `v1`."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from functools import lru_cache

PREFIX = "whsec_"
TOLERANCE_S = 300


class InvalidSignature(Exception):  # noqa: N818 - it names what the receiver found
    """What was received does not carry a signature that fits. The text says why."""


def new_secret() -> str:
    """A fresh secret: 24 random bytes, so that its base64 needs no padding."""
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 HMAC-SHA256 of `{id}.{timestamp}.{body}` under the secret's decoded bytes.

    `timestamp`: unix seconds of the attempt. `message_id` must hold no dot, or an id could swallow a timestamp.
    Raises ValueError for a secret or id that will not do.
    """
    if "." in message_id:
        raise ValueError("a webhook id must not hold a dot")
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(_key(secret), content, "sha256")
    return "v1," + binascii.b2a_base64(digest, newline=False).decode()


def verify(
    secret: str,
    message_id: str,
    timestamp: str,
    signatures: str,
    body: bytes,
    *,
    now: float,
    tolerance_s: int = TOLERANCE_S,
) -> None:
    """Check what a receiver got: the three header values and the raw body. Raises InvalidSignature.

    `now`: unix seconds. `signatures`: the space-separated list; one that fits is enough, unknown versions are passed
    by.
    """
    if not timestamp.isascii() or not timestamp.isdigit():
        raise InvalidSignature("the timestamp is not a whole number of seconds")
    if abs(now - int(timestamp)) > tolerance_s:
        raise InvalidSignature("the timestamp is too far from now")
    try:
        expected = sign(secret, message_id, int(timestamp), body).encode()
    except ValueError as error:
        raise InvalidSignature(str(error)) from error
    if not any(hmac.compare_digest(expected, candidate.encode()) for candidate in signatures.split()):
        raise InvalidSignature("no signature fits")


@lru_cache(maxsize=4096)
def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise ValueError("the webhook secret is not whsec_ and base64")
    return key
