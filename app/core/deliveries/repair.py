"""What people do to a delivery by hand: try it again, or call it off."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.deliveries.claims import RETRY
from app.core.deliveries.outcome import MOVES
from app.core.erased import ERASED
from app.core.outbox import Job, Lane, ring_after_commit
from app.core.runtime import Runtime
from app.errors import ConflictError, NotFoundError
from app.models import Delivery
from providers.contract import DeliveryStatus

AGAIN = frozenset(MOVES[DeliveryStatus.PENDING] - {DeliveryStatus.SENDING}) | {DeliveryStatus.PENDING}


def retry(session: Session, runtime: Runtime, tenant_id: str, delivery_id: str) -> None:
    """Send a delivery again at once, with its whole schedule before it. ConflictError: its status does not admit it."""
    now = runtime.clock.now()
    values = {
        "status": DeliveryStatus.PENDING.value,
        "reason": None,
        "error": None,
        "tries": 0,
        "losses": 0,
        "turn": RETRY,
        "dropped_at": None,
        "bounced_at": None,
        "next_attempt_at": now,
        "updated_at": now,
    }
    lane = _move(session, tenant_id, delivery_id, AGAIN, values, "be tried again")
    ring_after_commit(session, Job.DELIVER, Lane(lane))


def cancel(session: Session, runtime: Runtime, tenant_id: str, delivery_id: str) -> None:
    """Call a delivery off. One that is on the wire just now may still arrive, and is then `sent`."""
    now = runtime.clock.now()
    values = {"status": DeliveryStatus.CANCELED.value, "reason": "canceled", "next_attempt_at": None, "updated_at": now}
    _move(session, tenant_id, delivery_id, MOVES[DeliveryStatus.CANCELED], values, "be canceled")


def _move(
    session: Session,
    tenant_id: str,
    delivery_id: str,
    origins: frozenset[DeliveryStatus],
    values: dict[str, Any],
    what: str,
) -> str:
    mine = (Delivery.tenant_id == tenant_id, Delivery.id == delivery_id)
    moved = session.execute(
        update(Delivery)
        .where(*mine, Delivery.status.in_(origins), Delivery.reason.is_distinct_from(ERASED))
        .values(values)
        .returning(Delivery.lane)
    ).scalar()
    if moved is None:
        found = session.execute(select(Delivery.status, Delivery.reason).where(*mine)).one_or_none()
        if found is None:
            raise NotFoundError("There is no such delivery.")
        status = "erased" if found.reason == ERASED else found.status
        raise ConflictError(f"A delivery that is {status} cannot {what}.", code="wrong_status")
    return moved
