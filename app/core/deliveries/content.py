"""What a delivery says: rendered once, kept, and the same bytes on every try."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import structlog
from sqlalchemy import bindparam, select, text

from app import rows
from app.core import recipients, templates, webhooks
from app.core.deliveries import outbound
from app.core.deliveries.claims import Claim
from app.core.deliveries.contexts import event_context, person_context
from app.core.deliveries.outbound import Parts, Try
from app.core.erased import kept_out
from app.core.recipients import Person
from app.core.runtime import Runtime
from app.core.templating import CompiledMessage, HurryError, RenderError, TemplateError
from app.core.webhooks import Endpoint
from app.db import Transaction
from app.errors import NotFoundError
from app.models import DeliveryContent, Event, Tenant
from app.tenancy import tenant
from providers.contract import OutboundMessage, PermanentError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A claim with its message, or with the fault that keeps it from having one."""

    claim: Claim
    message: OutboundMessage | Exception


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that a batch of one tenant needs, read in one transaction."""

    tenant: Mapping[str, Any]
    kept: Mapping[str, Parts]
    events: Mapping[str, Mapping[str, Any]]
    people: Mapping[str, Person]
    endpoints: Mapping[str, Endpoint]
    messages: Mapping[tuple[str, str], CompiledMessage | Exception]
    bodies: dict[str, str] = field(default_factory=dict)

    def body_of(self, event: Mapping[str, Any]) -> str:
        """What a webhook without words of its own says of an event: the same for all its receivers."""
        found = self.bodies.get(event["id"])
        if found is None:
            found = self.bodies[event["id"]] = rows.dumps(_envelope(event))
        return found


@dataclass(frozen=True, slots=True)
class Batch:
    """Claims of one tenant and channel, with all that their messages are made of."""

    claims: Sequence[Claim]
    facts: _Facts


@dataclass(frozen=True, slots=True)
class Known:
    """What planning has read already: events as templates see them, people and subscribers, by their ids."""

    events: Mapping[str, Mapping[str, Any]]
    people: Mapping[str, Person]
    endpoints: Mapping[str, Endpoint]


def load(
    session: Transaction,
    runtime: Runtime,
    claims: Sequence[Claim],
    known: Known | None = None,
    until: float = math.inf,
) -> list[Batch]:
    """Claims of one tenant, a batch for each channel. What is not `known` is read in the transaction of the claims.

    No template is compiled after `until`, by the monotonic clock: then `compose` leaves out what needs it.
    """
    groups: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[claim.channel].append(claim)
    return [Batch(group, _read(session, runtime, group[0].tenant_id, group, known, until)) for group in groups.values()]


def prepare(runtime: Runtime, batch: Batch) -> list[Prepared]:
    """The messages of a batch. What is rendered now is kept before it is sent."""
    tenant_id = batch.claims[0].tenant_id
    prepared, fresh = compose(runtime, batch)
    if fresh:
        now = runtime.clock.now()
        with runtime.db.work(tenant(tenant_id)) as session:
            keep(session, tenant_id, fresh, now, late=True)
    return prepared


def compose(runtime: Runtime, batch: Batch, until: float = math.inf) -> tuple[list[Prepared], dict[str, Parts]]:
    """The messages of a batch, and what was rendered for them: {delivery id: parts}. Writes nothing.

    Those that are not ready `until` then, by the monotonic clock, are left out.
    """
    prepared: list[Prepared] = []
    fresh: dict[str, Parts] = {}
    for claim in batch.claims:
        if until < math.inf and time.monotonic() > until:
            break
        try:
            prepared.append(Prepared(claim, _message(runtime, claim, batch.facts, fresh, until)))
        except HurryError:
            break
    return prepared, fresh


def keep(session: Transaction, tenant_id: str, contents: Mapping[str, Parts], now: Any, *, late: bool = False) -> None:
    """Fix the contents of some deliveries: {delivery id: parts}. Those fixed before stay.

    `late`: their person may be gone by now.
    """
    values = [
        {"id": delivery_id, "tenant_id": tenant_id, "parts": parts, "created_at": now}
        for delivery_id, parts in contents.items()
    ]
    condition = kept_out(session, tenant_id, "id", list(contents)) if late else rows.ALWAYS
    rows.put(session, DeliveryContent, values, condition)


def _read(
    session: Transaction, runtime: Runtime, tenant_id: str, claims: Sequence[Claim], known: Known | None, until: float
) -> _Facts:
    owner = session.execute(_OWNER, {"tenant": tenant_id}).mappings().one()
    contents = _kept(session, tenant_id, claims)
    bare = [claim for claim in claims if claim.id not in contents]
    known = known or _look_up(session, tenant_id, claims, bare)
    people = known.people
    wanted = {(c.template, _locale(people.get(c.user_id or ""))) for c in bare if c.template}
    messages: dict[tuple[str, str], CompiledMessage | Exception] = {}
    for key, locale in wanted:
        if until < math.inf and time.monotonic() > until:
            messages[key, locale] = HurryError("There is no time to compile it now")
            continue
        try:
            messages[key, locale] = templates.message(session, runtime.files, tenant_id, key, claims[0].channel, locale)
        except (NotFoundError, TemplateError) as error:
            messages[key, locale] = error
    return _Facts(dict(owner), contents, known.events, people, known.endpoints, messages)


def _look_up(session: Transaction, tenant_id: str, claims: Sequence[Claim], bare: Sequence[Claim]) -> Known:
    people = recipients.load(session, tenant_id, sorted({c.user_id for c in bare if c.user_id}))
    endpoints = webhooks.load(session, tenant_id, sorted({c.configuration_id for c in claims if c.configuration_id}))
    return Known(_events(session, tenant_id, bare), people, endpoints)


def _kept(session: Transaction, tenant_id: str, claims: Sequence[Claim]) -> dict[str, Parts]:
    """What was fixed before. An event's delivery has nothing before its first attempt."""
    ids = [claim.id for claim in claims if claim.attempt > 1 or claim.trigger != "event"]
    if not ids:
        return {}
    postgres = rows.is_postgres(session)
    values = {"tenant": tenant_id, "ids": rows.id_list(ids, postgres)}
    return {row.id: row.parts for row in session.execute(_contents(postgres), values)}


def _events(session: Transaction, tenant_id: str, claims: Sequence[Claim]) -> dict[str, Mapping[str, Any]]:
    ids = sorted({claim.event_id for claim in claims if claim.event_id})
    if not ids:
        return {}
    postgres = rows.is_postgres(session)
    found = session.execute(_sources(postgres), {"tenant": tenant_id, "ids": rows.id_list(ids, postgres)})
    return {row.id: event_context(row.id, row.event_type, row.occurred_at, row.data) for row in found}


_OWNER = select(Tenant.name, Tenant.webhook_secret).where(Tenant.id == bindparam("tenant"))


@lru_cache(maxsize=2)
def _contents(postgres: bool) -> Any:
    own = (DeliveryContent.tenant_id == bindparam("tenant"), text(rows.these("delivery_contents", postgres)))
    return select(DeliveryContent.id, DeliveryContent.parts).where(*own)


@lru_cache(maxsize=2)
def _sources(postgres: bool) -> Any:
    own = (Event.tenant_id == bindparam("tenant"), text(rows.these("event_logs", postgres)))
    return select(Event.id, Event.event_type, Event.occurred_at, Event.data).where(*own)


def _locale(person: Person | None) -> str:
    return (person and person.locale) or "en"


def _message(
    runtime: Runtime, claim: Claim, facts: _Facts, fresh: dict[str, Parts], until: float
) -> OutboundMessage | Exception:
    try:
        parts = facts.kept.get(claim.id)
        if parts is None:
            parts = fresh[claim.id] = _render(claim, facts, until)
        endpoint = facts.endpoints.get(claim.configuration_id or "")
        return outbound.message(runtime, Try(claim, parts, endpoint, facts.tenant["webhook_secret"]))
    except PermanentError as fault:
        return fault
    except HurryError:
        raise
    except Exception as error:  # our bug: the row is tried again, and the others go on
        log.exception("content_failed", delivery=claim.id)
        return error


def _render(claim: Claim, facts: _Facts, until: float) -> Parts:
    event = facts.events.get(claim.event_id or "", {})
    greeting = claim.trigger == "test" and claim.template  # is of no event
    if not event and not greeting:
        raise PermanentError("content_gone", "what it said, or its event, is no longer kept")
    if not claim.template:
        return {"payload": facts.body_of(event)}
    person = facts.people.get(claim.user_id or "")
    message = facts.messages[claim.template, _locale(person)]
    if isinstance(message, HurryError):
        raise message
    if isinstance(message, NotFoundError):
        raise PermanentError("template_missing", message.detail)
    if isinstance(message, Exception):
        raise PermanentError("template_invalid", str(message))
    told = person_context(claim.user_id, person)
    context = templates.context(event, event.get("data", {}), told, facts.tenant["name"])
    zone = (person and person.time_zone) or "UTC"
    try:
        return dict(message.render(context, locale=_locale(person), time_zone=zone, until=until))
    except RenderError as error:
        raise PermanentError("render_failed", str(error)) from error


def _envelope(event: Mapping[str, Any]) -> dict[str, Any]:
    """The body that the Standard Webhooks specification advises."""
    return {"type": event.get("type"), "timestamp": event.get("occurredAt"), "data": event.get("data", {})}
