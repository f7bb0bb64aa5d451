"""A test notification to oneself (`tidings.test`): a delivery like every other, from the template of that key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app import rows
from app.core import recipients
from app.core.deliveries import drafts, plan
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.ids import new_id
from app.models import Delivery
from providers.contract import Channel

EVENT_TYPE = "tidings.test"


def write(
    session: Session, runtime: Runtime, tenant_id: str, user_id: str, channels: Sequence[Channel], *, test: bool = False
) -> list[str]:
    """One delivery for each channel to this person; returns the ids. Send them with `deliveries.send.send_now`.

    A channel on which the person cannot be reached gives a skipped delivery that says why; nobody has a webhook.
    """
    person = recipients.load(session, tenant_id, [user_id]).get(user_id)
    made = []
    for channel in dict.fromkeys(channels):
        address = None if channel is Channel.WEBHOOK else plan.address_of(channel, user_id, person)
        row = drafts.new_row(new_id(), tenant_id, channel, runtime.clock.now(), Lane.TRANSACTIONAL.value, test=test)
        row |= {"user_id": user_id, "address": address or "", "event_type": EVENT_TYPE, "template": EVENT_TYPE}
        row["trigger"] = "test"
        made.append(_judged(row, runtime, channel))
    rows.insert(session, Delivery, made)
    return [str(row["id"]) for row in made]


def _judged(row: dict[str, Any], runtime: Runtime, channel: Channel) -> dict[str, Any]:
    if row["test"]:
        return drafts.skipped(row, "test_key")
    if not row["address"]:
        return drafts.skipped(row, "no_address")
    return row if runtime.channels.providers(channel) else drafts.skipped(row, "no_provider")
