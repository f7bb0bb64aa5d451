"""A tenant's own templates: saved, listed, tried out; and the list of those that ship with the product."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.clock import Clock
from app.core import recipients
from app.core.templates.judging import faults, inputs, parts_of, place_of, preview_faults
from app.core.templates.lookup import PIECES, context
from app.core.templating import PARTS, FileTemplates, RenderError, compile_message, faults_of
from app.errors import ConflictError, InvalidError, NotFoundError, refuse
from app.ids import is_id, new_id
from app.models import Template, Tenant
from app.models.base import utc_text
from app.paging import Cursor, Page, page, page_of


def create(session: Session, files: FileTemplates, clock: Clock, tenant_id: str, fields: Mapping[str, Any]) -> Template:
    """A new template. `fields`: key, channel, locale, and the channel's parts by name.

    Raises InvalidError naming the part, with line and column in its text; ConflictError when there is one already.
    """
    clean = _checked(session, files, tenant_id, fields)
    made = Template(
        id=new_id(), tenant_id=tenant_id, version=1, created_at=clock.now(), updated_at=clock.now(), **clean
    )
    _save(session, made)
    return made


def replace(
    session: Session, files: FileTemplates, clock: Clock, tenant_id: str, template_id: str, fields: Mapping[str, Any]
) -> Template:
    """Replace a template whole; its version goes up. Raises NotFoundError, InvalidError, ConflictError."""
    found = get(session, tenant_id, template_id)
    for name, value in _checked(session, files, tenant_id, fields).items():
        setattr(found, name, value)
    # Counted by the database: two writers at once must not make two texts of one version.
    found.version = Template.version + 1
    found.updated_at = clock.now()
    _save(session, found)
    session.refresh(found)
    return found


def get(session: Session, tenant_id: str, template_id: str) -> Template:
    """One template. Raises NotFoundError."""
    found = session.get(Template, (tenant_id, template_id)) if is_id(template_id) else None
    if found is None:
        raise NotFoundError("There is no template with this id.")
    return found


def search(
    session: Session, tenant_id: str, cursor: Cursor, *, key: str | None = None, channel: str | None = None
) -> Page[Template]:
    """A tenant's own templates, the newest first."""
    query = select(Template).where(Template.tenant_id == tenant_id)
    query = query.where(Template.key == key) if key else query
    query = query.where(Template.channel == channel) if channel else query
    return page(session, query, Template.id, cursor)


def shipped(
    files: FileTemplates, cursor: Cursor, *, key: str | None = None, channel: str | None = None
) -> Page[dict[str, Any]]:
    """What ships with the product, by key: {key, channel, locale, version, parts}; version 0 says that it does."""
    found: dict[tuple[str, str], dict[str, str]] = {pair: files.parts(*pair) or {} for pair in files.keys()}  # noqa: SIM118
    for name in PARTS:
        for piece, source in files.partials(name).items():
            found[piece, name] = {_part_of_piece(name, piece): source}
    wanted: dict[str, dict[str, Any]] = {}
    for (of_key, of_channel), parts in sorted(found.items()):
        if key in (None, of_key) and channel in (None, of_channel):
            mark = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{of_channel}/{of_key}"))  # the same in every process
            wanted[mark] = {"key": of_key, "channel": of_channel, "locale": "", "version": 0, "parts": parts}
    return page_of(wanted, cursor)


def remove(session: Session, files: FileTemplates, tenant_id: str, template_id: str) -> None:
    """Delete a template; the shipped one of its key, if there is one, counts again.

    Raises NotFoundError, or ConflictError for a piece that another template cannot do without.
    """
    found = get(session, tenant_id, template_id)
    session.delete(found)
    session.flush()
    if not found.key.startswith(PIECES):
        return
    query = select(Template).where(Template.tenant_id == tenant_id, Template.channel == found.channel)
    for other in session.scalars(query).all():
        if not any(found.key in source for source in other.parts.values()):
            continue
        if faults_of(*inputs(session, files, tenant_id, other.key, other.channel, other.locale, other.parts)):
            raise ConflictError(f"The template {other.key} includes {found.key}.", code="in_use")


def preview_saved(
    session: Session, files: FileTemplates, clock: Clock, tenant_id: str, template_id: str, given: Mapping[str, Any]
) -> dict[str, str]:
    """Render a saved template, unsent. `given`: data, recipient, locale, time_zone. Raises InvalidError."""
    found = get(session, tenant_id, template_id)
    fields = {**found.parts, "locale": found.locale, **given, "key": found.key, "channel": found.channel}
    return preview(session, files, clock, tenant_id, fields)


def preview(
    session: Session, files: FileTemplates, clock: Clock, tenant_id: str, fields: Mapping[str, Any]
) -> dict[str, str]:
    """Render unsaved text: part name to words.

    `fields`: channel, its parts, partials ({name: source}, over the saved ones), data, recipient, locale, time_zone.
    Raises InvalidError: for a part with line and column, or for `data` when it cannot be rendered with it.
    """
    refuse(preview_faults(session, files, tenant_id, fields))
    key, channel = fields.get("key") or "preview", fields["channel"]
    given = recipients.checked(place_of(fields))
    parts = parts_of(fields)
    locale = fields.get("locale") or ""
    compiled = compile_message(*inputs(session, files, tenant_id, key, channel, locale, parts, fields.get("partials")))
    data = fields.get("data") or {}
    event = {"id": new_id(), "type": key, "occurredAt": utc_text(clock.now()), "data": data}
    tenant_name = session.scalar(select(Tenant.name).where(Tenant.id == tenant_id)) or ""
    seen = context(event, data, fields.get("recipient") or {}, tenant_name)
    try:
        rendered = compiled.render(seen, locale=given.get("locale") or "en", time_zone=given.get("time_zone") or "UTC")
    except RenderError as error:
        raise InvalidError({"data": str(error)}) from None
    return {name: text for name, text in rendered.items() if not key.startswith(PIECES) or name in parts}


def _checked(session: Session, files: FileTemplates, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    refuse(faults(session, files, tenant_id, fields))
    locale = recipients.checked(place_of(fields)).get("locale", "")
    return {"key": fields["key"], "channel": fields["channel"], "locale": locale, "parts": parts_of(fields)}


def _part_of_piece(channel: str, key: str) -> str:
    if channel == "email":
        return "text" if key.endswith("-text") else "html"
    return "payload" if channel == "webhook" else "text"


def _save(session: Session, template: Template) -> None:
    session.add(template)
    try:
        session.flush()
    except IntegrityError:
        raise ConflictError(
            f"There is a template {template.key} for {template.channel} in this locale already.", code="exists"
        ) from None
