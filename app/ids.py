"""Identifiers: UUIDv7 as text, whose order is the order of time."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime

import uuid_utils

_LAST_MOMENT = (1 << 48) - 1


def new_id() -> str:
    """A new UUIDv7."""
    return str(uuid_utils.uuid7())


def derived_id(origin: str, *parts: str) -> str:
    """A UUIDv7 with the time of `origin` and a hash of all the rest: the same arguments give the same id.

    Planning an event twice therefore makes the same deliveries, and they stand in the event's partition.
    """
    digest = hashlib.sha256("\x1f".join((origin, *parts)).encode()).digest()
    found = digest.hex()
    variant = "89ab"[digest[8] >> 4 & 0b11]
    return f"{origin[:13]}-7{found[13:16]}-{variant}{found[17:20]}-{found[20:32]}"


def seconds_of(id_: str) -> float:
    """The moment that a UUIDv7 was made at, in unix seconds."""
    return int(id_[:8] + id_[9:13], 16) / 1000


def first_id_of(at: datetime) -> str:
    """The least UUIDv7 of a moment: the bound between older and newer ids. Before 1970: the least of all."""
    return str(uuid.UUID(int=max(0, int(at.timestamp() * 1000)) << 80))


def time_of(identifier: str) -> datetime:
    """The moment of a UUIDv7, to the millisecond, in UTC."""
    return datetime.fromtimestamp((uuid.UUID(identifier).int >> 80) / 1000, UTC)


def ids_of_moment(id_: str) -> tuple[str, str]:
    """The least UUIDv7 of the moment that this one was made at, and the least of the next moment."""
    moment = uuid.UUID(id_).int >> 80
    return str(uuid.UUID(int=moment << 80)), str(uuid.UUID(int=min(moment + 1, _LAST_MOMENT) << 80))


def is_id(text: str) -> bool:
    """Whether `text` is a UUID in its usual spelling."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
