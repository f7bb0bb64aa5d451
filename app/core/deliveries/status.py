"""What providers say later of a message, applied by rank and not by the order in which it comes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import rows
from app.core.deliveries.outcome import MOVES
from app.core.runtime import Runtime
from app.ids import is_id
from app.metrics import CALLBACKS
from app.models import Delivery
from app.tenancy import Purpose, system, tenant
from providers.contract import DeliveryStatus, StatusUpdate

log = structlog.get_logger()

# The column that keeps when a status came about.
_MOMENT = {
    DeliveryStatus.SENT: "sent_at",
    DeliveryStatus.DELIVERED: "delivered_at",
    DeliveryStatus.BOUNCED: "bounced_at",
    DeliveryStatus.COMPLAINED: "complained_at",
    DeliveryStatus.FAILED: "dropped_at",
}


def apply(runtime: Runtime, said: StatusUpdate) -> bool:
    """Apply a provider's word to its delivery. False: there is no such delivery, which is logged and harmless."""
    if not said.delivery_id or not is_id(said.delivery_id):
        log.warning("callback_names_no_delivery", status=said.status)
        return False
    with runtime.db.transaction(system(Purpose.CALLBACK), read_only=True) as session:
        tenant_id = session.execute(select(Delivery.tenant_id).where(Delivery.id == said.delivery_id)).scalar()
    if tenant_id is None:
        log.warning("callback_for_unknown_delivery", delivery=said.delivery_id)
        return False
    with runtime.db.transaction(tenant(tenant_id)) as session:
        _apply(session, tenant_id, said, runtime.clock.now())
    return True


def _apply(session: Session, tenant_id: str, said: StatusUpdate, now: datetime) -> None:
    values: dict[str, Any] = {"updated_at": now}
    if moment := "deferred_at" if said.deferred else _MOMENT.get(said.status):
        values[moment] = func.coalesce(getattr(Delivery, moment), said.occurred_at or now)  # the first word counts
    if said.provider_id:
        values["provider_id"] = rows.storable(said.provider_id, 512)
    mine = (Delivery.tenant_id == tenant_id, Delivery.id == said.delivery_id)
    session.execute(update(Delivery).where(*mine).values(values))
    moved = (
        update(Delivery)
        .where(*mine, Delivery.status.in_(MOVES[said.status]))
        .values(
            status=said.status.value,
            reason=rows.storable(said.reason, 500),
            lease_until=None,
            next_attempt_at=None,
        )
    )
    if said.deferred or said.status not in _MOMENT:
        return
    if session.execute(moved).rowcount:  # type: ignore[attr-defined]
        CALLBACKS.labels(said.status.value).inc()
    else:
        log.info("callback_moves_nothing", delivery=said.delivery_id, status=said.status)
