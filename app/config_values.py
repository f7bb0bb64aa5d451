"""How the text of a setting becomes a value. Each raises ValueError with what is wrong, as the end of a sentence."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit


def text(value: str) -> str:
    """As it is."""
    return value


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", value):
            raise ValueError("is not a whole number")
        if not low <= int(value) <= high:
            raise ValueError(f"is not between {low} and {high}")
        return int(value)

    return parse


def flag(value: str) -> bool:
    """true or false, in the usual spellings."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError("is neither true nor false")
    return words[value.lower()]


def list_of(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Items with commas between, each one of `allowed` if that names any."""

    def parse(value: str) -> tuple[str, ...]:
        items = tuple(item.strip() for item in value.split(",") if item.strip())
        if unknown := [item for item in items if allowed and item not in allowed]:
            raise ValueError(f"names {unknown[0]!r}, which is none of {', '.join(allowed)}")
        return items

    return parse


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"is none of {', '.join(allowed)}")
        return value

    return parse


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of these schemes, without a slash at its end."""

    def parse(value: str) -> str:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:  # whose text may hold a password with a slash in it
            raise ValueError("is not a URL; a password in it must be percent-encoded") from None
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            raise ValueError(f"is not a URL that begins with {' or '.join(s + '://' for s in schemes)}")
        return value.rstrip("/")

    return parse


def cidrs(value: str) -> tuple[str, ...]:
    """Address ranges with commas between."""
    return tuple(str(ipaddress.ip_network(item, strict=False)) for item in list_of()(value))


def rate(value: str) -> str:
    """A limit such as "600 per minute"."""
    if not re.fullmatch(r"\d{1,9} per (second|minute|hour|day)", value):
        raise ValueError('is not a limit such as "600 per minute"')
    return value


def pace(value: str) -> str:
    """A rate such as "14 per second", at least one."""
    if not re.fullmatch(r"[1-9]\d{0,8} per (second|minute|hour|day)", value):
        raise ValueError('is not a rate such as "14 per second"')
    return value


def lanes(*names: str) -> Callable[[str], tuple[tuple[str, int], ...]]:
    """Threads by lane, such as "normal=4,bulk=2": any of `names`, each once, with 1 to 256 threads."""

    def parse(value: str) -> tuple[tuple[str, int], ...]:
        found: dict[str, int] = {}
        for item in list_of()(value):
            name, given, threads = (part.strip() for part in item.partition("="))
            if not given:
                raise ValueError(f'is not a list such as "{",".join(f"{known}=2" for known in names)}"')
            if name not in names:
                raise ValueError(f"names {name!r}, which is none of {', '.join(names)}")
            if name in found:
                raise ValueError(f"names {name} twice")
            if not re.fullmatch(r"\d{1,3}", threads) or not 1 <= int(threads) <= 256:
                raise ValueError(f"gives {name} {threads!r} threads, which is not between 1 and 256")
            found[name] = int(threads)
        if not found:
            raise ValueError("names no lane")
        return tuple(found.items())

    return parse


def holds_certificates(path: str) -> bool:
    """Whether the file can be loaded as trusted certificates (PEM)."""
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError):
        return False
    return True
