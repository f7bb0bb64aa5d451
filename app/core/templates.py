"""The words: a tenant's templates over those that ship with the product, looked up by key, channel and locale.

Keys that begin with `layouts/` or `partials/` are pieces that other templates of the same channel include. A piece has
one part, which says for which part of a message it is written; HTML and text variants have keys of their own.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.clock import Clock
from app.core import recipients
from app.core.names import is_template_key
from app.core.templating import PARTS, CompiledMessage, FileTemplates, RenderError, TemplateError, compile_message
from app.errors import ConflictError, InvalidError, NotFoundError
from app.ids import is_id, new_id
from app.models import Template, Tenant
from app.models.base import utc_text
from app.paging import Cursor, Page, page, page_of

PIECES = ("layouts/", "partials/")
PART_NAMES = tuple(dict.fromkeys(name for parts in PARTS.values() for name in parts))

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
    session: Session, files: FileTemplates, tenant_id: str, key: str, channel: str, locale: str
) -> CompiledMessage:
    """The message of a key on a channel for a locale, compiled: the tenant's for `de-AT`, then `de`, then any, else
    the shipped one. The tenant's pieces stand over shipped ones of the same name.

    One small query when nothing has changed. Raises NotFoundError, or TemplateError for text that no longer compiles.
    """
    query = select(Template.id, Template.version).where(*_wanted(tenant_id, key, channel, locale))
    versions = sorted((row.id, row.version) for row in session.execute(query))
    mark = (tenant_id, key, channel, locale, files, tuple(versions))
    found = _cache.get(mark)
    if found is None:
        parts, partials = _sources(session, files, tenant_id, key, channel, locale)
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
        try:
            _compile(session, files, tenant_id, other.key, other.channel, other.locale, other.parts)
        except TemplateError:
            raise ConflictError(f"The template {other.key} includes {found.key}.", code="in_use") from None


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
    key, channel, locale = fields.get("key") or "preview", fields["channel"], fields.get("locale") or ""
    given = recipients.checked({name: fields[name] for name in ("locale", "time_zone") if fields.get(name)})
    parts = _parts(key, channel, fields)
    try:
        compiled = _compile(session, files, tenant_id, key, channel, locale, parts, fields.get("partials"))
    except TemplateError as error:
        raise _invalid(error) from None
    data = fields.get("data") or {}
    event = {"id": new_id(), "type": key, "occurredAt": utc_text(clock.now()), "data": data}
    tenant_name = session.scalar(select(Tenant.name).where(Tenant.id == tenant_id)) or ""
    seen = context(event, data, fields.get("recipient") or {}, tenant_name)
    try:
        rendered = compiled.render(seen, locale=given.get("locale") or "en", time_zone=given.get("time_zone") or "UTC")
    except RenderError as error:
        raise InvalidError({"data": str(error)}) from None
    return {name: text for name, text in rendered.items() if not key.startswith(PIECES) or name in parts}


def chain(locale: str) -> tuple[str, ...]:
    """Where to look for a locale: `de-AT`, `de`, and "" for any."""
    words = locale.replace("_", "-").split("-") if locale else []
    return (*("-".join(words[:length]) for length in range(len(words), 0, -1)), "")


def _wanted(tenant_id: str, key: str, channel: str, locale: str) -> tuple[Any, ...]:
    """The rows that have a say in a message: its own, and all pieces."""
    return (
        Template.tenant_id == tenant_id,
        Template.channel == channel,
        Template.locale.in_(chain(locale)),
        or_(Template.key == key, *(Template.key.like(f"{prefix}%") for prefix in PIECES)),
    )


def _sources(
    session: Session, files: FileTemplates, tenant_id: str, key: str, channel: str, locale: str
) -> tuple[Mapping[str, str] | None, dict[str, str]]:
    """The parts of a message, or None, and the pieces it may include."""
    found = session.execute(
        select(Template.key, Template.locale, Template.parts).where(*_wanted(tenant_id, key, channel, locale))
    ).all()
    order = chain(locale)
    parts, partials = files.parts(key, channel), files.partials(channel)
    for row in sorted(found, key=lambda row: order.index(row.locale), reverse=True):  # the nearest locale comes last
        if row.key.startswith(PIECES):
            partials[row.key] = next(iter(row.parts.values()))
        if row.key == key:
            parts = row.parts
    return parts, partials


def _compile(
    session: Session,
    files: FileTemplates,
    tenant_id: str,
    key: str,
    channel: str,
    locale: str,
    parts: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> CompiledMessage:
    """Compile text that is not saved yet among the pieces that are. Raises TemplateError."""
    _, partials = _sources(session, files, tenant_id, key, channel, locale)
    partials |= extra or {}
    if key.startswith(PIECES):
        source = next(iter(parts.values()))
        partials[key] = source
        # A piece is no message by itself: what a message must have besides is empty.
        parts = {PARTS[channel][0]: "", **({"text": ""} if "subject" in parts else {}), **parts}
    return compile_message(channel, parts, partials)


def _checked(session: Session, files: FileTemplates, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    key, channel = fields["key"], fields["channel"]
    faults: dict[str, str] = {}
    if not is_template_key(key):
        faults["key"] = "is not a template key such as order.created or partials/footer"
    if channel not in PARTS:
        faults["channel"] = f"is none of {', '.join(PARTS)}"
    if faults:
        raise InvalidError(faults)
    locale = recipients.checked({"locale": fields.get("locale") or None})["locale"] or ""
    parts = _parts(key, channel, fields)
    try:
        _compile(session, files, tenant_id, key, channel, locale, parts)
    except TemplateError as error:
        raise _invalid(error) from None
    return {"key": key, "channel": channel, "locale": locale, "parts": parts}


def _parts(key: str, channel: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """The parts among the fields. Raises InvalidError for those that the channel does not have."""
    parts = {name: fields[name] for name in PART_NAMES if fields.get(name) is not None}
    if foreign := [name for name in parts if name not in PARTS.get(channel, ())]:
        raise InvalidError(dict.fromkeys(foreign, f"is no part of a message for {channel}"))
    if key.startswith(PIECES) and len(parts) != 1:
        raise InvalidError({PARTS[channel][-1]: "a layout or partial has exactly one part"})
    return parts


def _part_of_piece(channel: str, key: str) -> str:
    if channel == "email":
        return "text" if key.endswith("-text") else "html"
    return "payload" if channel == "webhook" else "text"


def _invalid(error: TemplateError) -> InvalidError:
    partial = f"in {error.partial}: " if error.partial else ""
    where = f"{partial}{error.message} (line {error.line}, column {error.column})"
    return InvalidError({error.part or "text": where})


def _save(session: Session, template: Template) -> None:
    session.add(template)
    try:
        session.flush()
    except IntegrityError:
        raise ConflictError(
            f"There is a template {template.key} for {template.channel} in this locale already.", code="exists"
        ) from None
