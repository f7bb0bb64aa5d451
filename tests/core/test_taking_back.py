"""Leases that ran out are taken back, also past what somebody holds: PostgreSQL only, SQLite has one writer."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.core import sweeps
from app.core.deliveries import claims, event_claims
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.models import Delivery, Event
from app.tenancy import Purpose, system, tenant
from providers.contract import Channel
from tests.core.helpers import accept, post_direct, rows_of


@pytest.fixture
def shape() -> str:
    return "production"


def test_a_row_that_is_locked_keeps_back_no_other(runtime: Runtime, tenant_id: str) -> None:
    # given two events and two deliveries whose leases are over
    events = accept(runtime, tenant_id, EventInput("x.y"), EventInput("x.y"))
    sends = [post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="t") for _ in range(2)]
    now = runtime.clock.now()
    with runtime.db.transaction(tenant(tenant_id)) as session:
        event_claims.claim(session, Lane.NORMAL, tenant_id, now)
        claims.claim_these(session, tenant_id, sends, now, 0.0)
        session.execute(
            text("UPDATE event_logs SET lease_until = created_at WHERE tenant_id = :tenant"), {"tenant": tenant_id}
        )
    # when somebody holds one of each, and a sweep comes
    with runtime.db.transaction(system(Purpose.SWEEP)) as holder:
        holder.execute(text("SELECT id FROM event_logs WHERE id = :id FOR UPDATE"), {"id": events[0]})
        holder.execute(text("SELECT id FROM notification_logs WHERE id = :id FOR UPDATE"), {"id": sends[0]})
        sweeps.sweep(runtime)
        # then the others are free
        assert [event.status for event in rows_of(runtime, tenant_id, Event)] == ["planning", "received"]
        assert [send.status for send in rows_of(runtime, tenant_id, Delivery)] == ["sending", "pending"]
    # and those too, when nobody holds them
    sweeps.sweep(runtime)
    assert {event.status for event in rows_of(runtime, tenant_id, Event)} == {"received"}
    assert {send.status for send in rows_of(runtime, tenant_id, Delivery)} == {"pending"}
