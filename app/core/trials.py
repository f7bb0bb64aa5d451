"""Trying a webhook configuration out: one delivery, sent at once, and what came of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from app import rows
from app.core import webhooks
from app.core.deliveries import claims, content, send
from app.core.deliveries.drafts import new_row
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.errors import ConflictError
from app.ids import new_id
from app.models import Delivery, WebhookAttempt
from app.models.base import utc_text
from app.tenancy import tenant
from providers.contract import Channel


def try_webhook(runtime: Runtime, tenant_id: str, configuration_id: str, event_type: str) -> dict[str, Any]:
    """Send a test event to a configuration, enabled or not, and wait for the answer. It is not tried again.

    Returns the columns of the WebhookAttempt, with `status` and `reason` of its delivery. Raises NotFoundError, and
    ConflictError when the configuration vanished meanwhile. Opens transactions of its own, none while it waits.
    """
    now = runtime.clock.now()
    payload = {"type": event_type, "timestamp": utc_text(now), "data": {"message": "A test from Tidings."}}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        found = webhooks.get(session, tenant_id, configuration_id)
        row = new_row(new_id(), tenant_id, Channel.WEBHOOK, now, Lane.TRANSACTIONAL.value, test=True)
        row |= {"configuration_id": found.id, "address": found.url, "event_type": event_type, "trigger": "test"}
        rows.insert(session, Delivery, [row])
        content.keep(session, tenant_id, {row["id"]: {"payload": rows.dumps(payload)}}, now)
        # Claimed before anybody else can see it: the answer belongs to whoever asked.
        lease = send.lease_seconds(runtime, Channel.WEBHOOK)
        claimed = claims.claim_these(session, tenant_id, [row["id"]], now, lease)
        batches = content.load(session, runtime, claimed)
    send.send_batches(runtime, batches)
    return _result(runtime, tenant_id, row["id"])


def _result(runtime: Runtime, tenant_id: str, delivery_id: str) -> dict[str, Any]:
    attempts = WebhookAttempt.__table__.c
    deliveries = Delivery.__table__.c
    query = select(*attempts, deliveries.status, deliveries.reason).where(
        attempts.tenant_id == tenant_id,
        attempts.delivery_id == delivery_id,
        deliveries.tenant_id == tenant_id,
        deliveries.id == attempts.delivery_id,
    )
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        found = session.execute(query).mappings().first()
    if found is None:
        raise ConflictError("The configuration could not be tried: it was changed meanwhile.", code="not_tried")
    return dict(found)
