"""Looking the words up: a tenant's own over the shipped ones, the nearest locale first, compiled once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, or_, select, text

from app import rows
from app.core.templating import CompiledMessage, FileTemplates, compile_message
from app.db import Transaction
from app.errors import NotFoundError
from app.models import Template

PIECES = ("layouts/", "partials/")
_MAX_CACHED = 1_000


class _Cache:
    """Compiled messages by what they were made from, the least used dropped first."""

    def __init__(self) -> None:
        self._found: OrderedDict[Any, CompiledMessage] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> CompiledMessage | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: Any, message: CompiledMessage) -> None:
        with self._lock:
            self._found[key] = message
            while len(self._found) > _MAX_CACHED:
                self._found.popitem(last=False)


_cache = _Cache()


def message(
    session: Transaction, files: FileTemplates, tenant_id: str, key: str, channel: str, locale: str
) -> CompiledMessage:
    """The message of a key on a channel for a locale, compiled: the tenant's for `de-AT`, then `de`, then any, else
    the shipped one. The tenant's pieces stand over shipped ones of the same name.

    One small query when nothing has changed. Raises NotFoundError, or TemplateError for text that no longer compiles.
    """
    wanted = _named(session, tenant_id, key, channel, locale)
    versions = sorted((row.id, row.version) for row in session.execute(_versions(rows.is_postgres(session)), wanted))
    mark = (tenant_id, key, channel, locale, files, tuple(versions))
    found = _cache.get(mark)
    if found is None:
        parts, partials = sources(session, files, tenant_id, key, channel, locale)
        if parts is None:
            raise NotFoundError(f"There is no template {key} for {channel}.")
        found = compile_message(channel, parts, partials)
        _cache.put(mark, found)
    return found


def context(
    event: Mapping[str, Any], data: Mapping[str, Any], recipient: Mapping[str, Any], tenant_name: str
) -> dict[str, Any]:
    """What a template sees: event, data, recipient and tenant by name, and the fields of data also without it."""
    named = {"event": event, "data": data, "recipient": recipient, "tenant": {"name": tenant_name}}
    return {**data, **named}


def chain(locale: str) -> tuple[str, ...]:
    """Where to look for a locale: `de-AT`, `de`, and "" for any."""
    words = locale.replace("_", "-").split("-") if locale else []
    return (*("-".join(words[:length]) for length in range(len(words), 0, -1)), "")


def _named(session: Transaction, tenant_id: str, key: str, channel: str, locale: str) -> dict[str, Any]:
    locales = list(chain(locale))
    given = {"tenant": tenant_id, "channel": channel, "key": key}
    return given | {"locales": locales if rows.is_postgres(session) else rows.dumps(locales)}


def _wanted(postgres: bool) -> tuple[Any, ...]:
    """The rows that have a say in a message: its own, and all pieces."""
    locales = "ANY(CAST(:locales AS text[]))" if postgres else "(SELECT value FROM json_each(:locales))"
    return (
        Template.tenant_id == bindparam("tenant"),
        Template.channel == bindparam("channel"),
        text(f"message_templates.locale {'=' if postgres else 'IN'} {locales}"),
        or_(Template.key == bindparam("key"), *(Template.key.like(f"{prefix}%") for prefix in PIECES)),
    )


@lru_cache(maxsize=2)
def _versions(postgres: bool) -> Any:
    return select(Template.id, Template.version).where(*_wanted(postgres))


@lru_cache(maxsize=2)
def _sources(postgres: bool) -> Any:
    return select(Template.key, Template.locale, Template.parts).where(*_wanted(postgres))


def sources(
    session: Transaction, files: FileTemplates, tenant_id: str, key: str, channel: str, locale: str
) -> tuple[Mapping[str, str] | None, dict[str, str]]:
    """The parts of a message, or None when there is none, and the pieces it may include: name to source."""
    wanted = _named(session, tenant_id, key, channel, locale)
    found = session.execute(_sources(rows.is_postgres(session)), wanted).all()
    order = chain(locale)
    parts, partials = files.parts(key, channel), files.partials(channel)
    for row in sorted(found, key=lambda row: order.index(row.locale), reverse=True):  # the nearest locale comes last
        if row.key.startswith(PIECES):
            partials[row.key] = next(iter(row.parts.values()))
        if row.key == key:
            parts = row.parts
    return parts, partials
