"""What is wrong with a template that is to be saved or previewed: everything, and not only the first fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.core import recipients
from app.core.names import is_template_key
from app.core.templates.lookup import PIECES, sources
from app.core.templating import PARTS, FileTemplates, faults_of

PART_NAMES = tuple(dict.fromkeys(name for parts in PARTS.values() for name in parts))


def faults(session: Session, files: FileTemplates, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with those fields of a template that are there: {name: why}. The same judgement as `create`'s."""
    key, channel = fields.get("key"), fields.get("channel")
    found: dict[str, str] = {}
    if key is not None and not is_template_key(key):
        found["key"] = "is not a template key such as order.created or partials/footer"
    if channel is not None and channel not in PARTS:
        found["channel"] = f"is none of {', '.join(PARTS)}"
    return {**found, **_text_faults(session, files, tenant_id, key or "", fields)}


def preview_faults(session: Session, files: FileTemplates, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with those fields of a preview that are there: {name: why}. The data are not looked at."""
    return _text_faults(session, files, tenant_id, fields.get("key") or "preview", fields)


def _text_faults(
    session: Session, files: FileTemplates, tenant_id: str, key: str, fields: Mapping[str, Any]
) -> dict[str, str]:
    """What is wrong with the locale, the time zone and every part."""
    found = place_faults(fields)
    channel, parts = str(fields.get("channel")), parts_of(fields)
    if channel not in PARTS:
        return found
    foreign = [name for name in parts if name not in PARTS[channel]]
    found |= dict.fromkeys(foreign, f"is no part of a message for {channel}")
    own = {name: source for name, source in parts.items() if name not in foreign}
    if key.startswith(PIECES) and len(own) != 1:
        return {PARTS[channel][-1]: "a layout or partial has exactly one part", **found}
    locale = "" if "locale" in found else fields.get("locale") or ""
    given = inputs(session, files, tenant_id, key, channel, locale, own, fields.get("partials"))
    for error in faults_of(*given):
        partial = f"in {error.partial}: " if error.partial else ""
        where = f"{partial}{error.message} (line {error.line}, column {error.column})"
        found.setdefault(error.part or PARTS[channel][0], where)
    return found


def inputs(
    session: Session,
    files: FileTemplates,
    tenant_id: str,
    key: str,
    channel: str,
    locale: str,
    parts: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> tuple[str, Mapping[str, str], Mapping[str, str]]:
    """What `compile_message` takes, for text that is not saved yet among the pieces that are."""
    _, partials = sources(session, files, tenant_id, key, channel, locale)
    partials |= extra or {}
    if key.startswith(PIECES):
        source = next(iter(parts.values()))
        partials[key] = source
        # A piece is no message by itself: what a message must have besides is empty.
        parts = {PARTS[channel][0]: "", **({"text": ""} if "subject" in parts else {}), **parts}
    return channel, parts, partials


def place_faults(fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the locale and the time zone among the fields: {name: why}."""
    return recipients.faults(place_of(fields))


def place_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The locale and the time zone among the fields."""
    return {name: fields[name] for name in ("locale", "time_zone") if fields.get(name)}


def parts_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The parts among the fields: name to source."""
    return {name: fields[name] for name in PART_NAMES if fields.get(name) is not None}
