"""Webhook configurations: who subscribes to which events, under which URL and secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Boolean, String, bindparam, select, text, update
from sqlalchemy.orm import Session

from app import rows
from app.clock import Clock
from app.core.names import is_pattern
from app.core.names import matches as matches
from app.crypto import Vault
from app.db import Transaction
from app.errors import ConflictError, InvalidError, NotFoundError, refuse
from app.ids import is_id, new_id
from app.models import Tenant, WebhookAttempt, WebhookConfiguration
from app.models.base import Id
from app.paging import Cursor, Page, page
from providers.guard import Resolver, check_url, resolve
from providers.webhook.signature import PREFIX, new_secret

LOOKUP_SECONDS = 5.0  # a name server that hangs must not keep the request's thread
_lookups = ThreadPoolExecutor(max_workers=16, thread_name_prefix="lookup")
MAX_CONFIGURATIONS = 1_000  # of one tenant
MAX_EVENT_TYPES = 100
MAX_DESCRIPTION = 1_000  # characters


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A subscriber as the sender needs it; `secret` is sealed."""

    id: str
    url: str
    secret: str
    event_types: tuple[str, ...]
    enabled: bool = True


def enabled(session: Transaction, tenant_id: str) -> dict[str, Endpoint]:
    """The enabled subscribers of a tenant by id, the oldest first."""
    return {row.id: _endpoint(row) for row in session.execute(_ENABLED, {"tenant": tenant_id})}


def load(session: Transaction, tenant_id: str, ids: Iterable[str]) -> dict[str, Endpoint]:
    """These subscribers by id, enabled or not; who is gone is absent."""
    postgres = rows.is_postgres(session)
    values = {"tenant": tenant_id, "ids": rows.id_list(ids, postgres)}
    return {row.id: _endpoint(row) for row in session.execute(_these(postgres), values)}


def check_target(url: str, allow: Sequence[str], *, resolver: Resolver = resolve) -> None:
    """Refuse a URL that may not be called. Looks its name up, so call it outside any transaction.

    `allow`: ranges (CIDR) that are admitted besides the public internet. Raises InvalidError for `url`.
    """
    if fault := _target_fault(url, allow, resolver):
        raise InvalidError({"url": fault})


def faults(fields: Mapping[str, Any], allow: Sequence[str], *, resolver: Resolver = resolve) -> dict[str, str]:
    """What is wrong with those fields of a configuration that are there: {path: why}. Looks up as `check_target`."""
    fault = _target_fault(fields["url"], allow, resolver) if "url" in fields else None
    return {**({"url": fault} if fault else {}), **_field_faults(fields)}


def _target_fault(url: str, allow: Sequence[str], resolver: Resolver) -> str | None:
    judged = _lookups.submit(check_url, url, allow, resolver=resolver)
    try:
        judged.result(timeout=LOOKUP_SECONDS)
    except TimeoutError:
        return "names a host that could not be looked up in time"
    except ValueError as error:
        return str(error)
    return None


def create(
    session: Session, vault: Vault, clock: Clock, tenant_id: str, fields: Mapping[str, Any]
) -> tuple[WebhookConfiguration, str]:
    """A new subscriber and its secret, which is shown only now.

    `fields`: url (see `check_target`), event_types, description, enabled. Raises InvalidError.
    """
    query = select(WebhookConfiguration.id).where(WebhookConfiguration.tenant_id == tenant_id)
    if len(session.scalars(query.limit(MAX_CONFIGURATIONS)).all()) >= MAX_CONFIGURATIONS:
        raise ConflictError(f"There are {MAX_CONFIGURATIONS} webhook configurations already.", code="too_many")
    secret, now = new_secret(), clock.now()
    made = WebhookConfiguration(
        id=new_id(), tenant_id=tenant_id, secret=vault.seal(secret), created_at=now, updated_at=now
    )
    _assign(made, _checked(fields), clock)
    session.add(made)
    session.flush()
    return made, secret


def replace(
    session: Session, clock: Clock, tenant_id: str, configuration_id: str, fields: Mapping[str, Any]
) -> WebhookConfiguration:
    """Replace all but the secret. Enabling it clears why it was disabled. Raises NotFoundError, InvalidError."""
    found = get(session, tenant_id, configuration_id)
    _assign(found, _checked(fields), clock)
    session.flush()
    return found


def regenerate_secret(
    session: Session, vault: Vault, clock: Clock, tenant_id: str, configuration_id: str
) -> tuple[WebhookConfiguration, str]:
    """A new secret, shown only now; the old one signs nothing more. Raises NotFoundError."""
    found = get(session, tenant_id, configuration_id)
    secret = new_secret()
    found.secret, found.updated_at = vault.seal(secret), clock.now()
    session.flush()
    return found, secret


def regenerate_own_secret(session: Session, vault: Vault, tenant_id: str) -> str:
    """A new secret for what a tenant sends directly, shown only now; the old one signs nothing more."""
    secret = new_secret()
    session.execute(update(Tenant).where(Tenant.id == tenant_id).values(webhook_secret=vault.seal(secret)))
    return secret


def hint(vault: Vault, found: WebhookConfiguration) -> str:
    """What people recognise a secret by: its beginning, far too short to guess the rest."""
    return vault.open(found.secret)[: len(PREFIX) + 4] + "…"


def disable(session: Transaction, clock: Clock, tenant_id: str, configuration_id: str, reason: str) -> None:
    """Stop sending to a subscriber, and say why. One that is disabled already keeps its first reason."""
    session.execute(
        update(WebhookConfiguration)
        .where(
            WebhookConfiguration.tenant_id == tenant_id,
            WebhookConfiguration.id == configuration_id,
            WebhookConfiguration.enabled.is_(True),
        )
        .values(enabled=False, disabled_reason=reason, disabled_at=clock.now(), updated_at=clock.now())
    )


def get(session: Session, tenant_id: str, configuration_id: str) -> WebhookConfiguration:
    """One configuration. Raises NotFoundError."""
    found = session.get(WebhookConfiguration, (tenant_id, configuration_id)) if is_id(configuration_id) else None
    if found is None:
        raise NotFoundError("There is no webhook configuration with this id.")
    return found


def search(session: Session, tenant_id: str, cursor: Cursor) -> Page[WebhookConfiguration]:
    """A tenant's configurations, the newest first."""
    query = select(WebhookConfiguration).where(WebhookConfiguration.tenant_id == tenant_id)
    return page(session, query, WebhookConfiguration.id, cursor)


def remove(session: Session, tenant_id: str, configuration_id: str) -> None:
    """Delete a configuration; its logs stay until they are old. Raises NotFoundError."""
    session.delete(get(session, tenant_id, configuration_id))
    session.flush()


def logs(session: Session, tenant_id: str, configuration_id: str, cursor: Cursor) -> Page[WebhookAttempt]:
    """What a subscriber's server answered, the newest first. Raises NotFoundError."""
    get(session, tenant_id, configuration_id)
    query = select(WebhookAttempt).where(
        WebhookAttempt.tenant_id == tenant_id, WebhookAttempt.configuration_id == configuration_id
    )
    return page(session, query, WebhookAttempt.id, cursor)


_TABLE = WebhookConfiguration
_ENDPOINTS = select(_TABLE.id, _TABLE.url, _TABLE.secret, _TABLE.event_types, _TABLE.enabled).where(
    _TABLE.tenant_id == bindparam("tenant")
)
_ENABLED = _ENDPOINTS.where(_TABLE.enabled.is_(True)).order_by(_TABLE.id)


@lru_cache(maxsize=2)
def _these(postgres: bool) -> Any:
    if not postgres:
        return _ENDPOINTS.where(text(rows.these("webhook_configurations", postgres)))
    # Each is looked up by its id: a planner that takes the table for a small one would read all of it for each.
    found = (
        "SELECT found.* FROM unnest(CAST(:ids AS uuid[])) AS asked(id) CROSS JOIN LATERAL"
        " (SELECT id, url, secret, event_types, enabled FROM webhook_configurations"
        " WHERE tenant_id = :tenant AND id = asked.id OFFSET 0) AS found"
    )
    return text(found).columns(id=Id, url=String, secret=String, event_types=_TABLE.event_types.type, enabled=Boolean)


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(row.id, row.url, row.secret, tuple(row.event_types), row.enabled)


def _assign(found: WebhookConfiguration, fields: Mapping[str, Any], clock: Clock) -> None:
    found.url, found.event_types, found.description = fields["url"], fields["event_types"], fields["description"]
    if fields["enabled"]:
        found.disabled_reason = found.disabled_at = None
    elif found.enabled is not False:
        found.disabled_reason, found.disabled_at = "by request", clock.now()
    found.enabled, found.updated_at = fields["enabled"], clock.now()


def _field_faults(fields: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    event_types = fields.get("event_types")
    if event_types is not None and not 1 <= len(event_types) <= MAX_EVENT_TYPES:
        found["eventTypes"] = f"must have 1 to {MAX_EVENT_TYPES} items; leave it out for all"
    for index, pattern in enumerate(event_types or ()):
        if pattern is not None and not is_pattern(pattern):
            found[f"eventTypes.{index}"] = "is not an event type such as order.created, order.* or *"
    if len(fields.get("description") or "") > MAX_DESCRIPTION:
        found["description"] = f"is longer than {MAX_DESCRIPTION} characters"
    return found


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    refuse(_field_faults(fields))
    wanted, enabled = fields.get("event_types"), fields.get("enabled")
    return {
        "url": fields["url"],
        "event_types": ["*"] if wanted is None else list(dict.fromkeys(wanted)),
        "description": fields.get("description") or "",
        "enabled": True if enabled is None else enabled,
    }
