"""A message that somebody wrote out, to addresses that somebody names: no rules, no template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app import rows
from app.core import preferences, rules
from app.core.deliveries import content, witness
from app.core.deliveries.drafts import IS_PAST, is_over, new_row, skipped
from app.core.outbox import Job, Lane, ring_after_commit
from app.core.runtime import Runtime
from app.core.templating import RenderError, finish_html
from app.errors import InvalidError, refuse
from app.ids import new_id
from app.models import Delivery
from providers.contract import Channel


@dataclass(frozen=True, slots=True)
class DirectSend:
    """A message that somebody wrote out: one delivery for each address of `to`.

    `content` is what `DeliveryContent.parts` says. Preferences count when `user_id` and `event_type` are given.
    """

    channel: Channel
    to: tuple[str, ...]
    content: Mapping[str, Any]
    user_id: str | None = None
    event_type: str | None = None
    test: bool = False
    lane: Lane = Lane.TRANSACTIONAL
    expires_at: datetime | None = None
    traceparent: str | None = None


def send_direct(session: Session, runtime: Runtime, tenant_id: str, message: DirectSend) -> list[str]:
    """Write down one delivery for each address, with its content, and have them sent after commit.

    Raises InvalidError naming `html` or `expiresAt`.
    """
    now, lane = runtime.clock.now(), message.lane
    refuse({"expiresAt": IS_PAST} if is_over(message.expires_at, now) else {})
    parts = _finished(message)
    category, reason = _judged(session, runtime, tenant_id, message)
    made, contents = [], {}
    for position, address in enumerate(message.to):
        row = new_row(new_id(), tenant_id, message.channel, now, lane.value, test=message.test)
        row |= {"user_id": message.user_id, "event_type": message.event_type, "address": address, "trigger": "direct"}
        row |= {"category": category, "expires_at": message.expires_at, "traceparent": message.traceparent}
        if message.channel is Channel.IN_APP:
            row["user_id"] = address
        made.append(skipped(row, reason) if reason else row)
        contents[row["id"]] = _first_only(parts, position)
    rows.insert(session, Delivery, made)
    content.keep(session, tenant_id, contents, now)
    witness.sends_accepted(session, made)
    ring_after_commit(session, Job.DELIVER, lane)
    return [row["id"] for row in made]


def _finished(message: DirectSend) -> Mapping[str, Any]:
    """The content as it will go out; HTML as templates' HTML does. Raises InvalidError naming `html`."""
    html = message.content.get("html")
    if not html:
        return message.content
    try:
        styled, plain = finish_html(html, message.content.get("text") or "")
    except RenderError as error:
        raise InvalidError({"html": str(error)}) from None
    return {**message.content, "html": styled, "text": plain}


def _first_only(parts: Mapping[str, Any], position: int) -> dict[str, Any]:
    """cc and bcc ride on the first delivery: nobody should get the same copy for each address."""
    return {key: value for key, value in parts.items() if position == 0 or key not in ("cc", "bcc")}


def _judged(session: Session, runtime: Runtime, tenant_id: str, message: DirectSend) -> tuple[str | None, str | None]:
    """The category of a direct send and, if it must not go out, the reason."""
    category, critical = message.event_type, False
    if message.user_id and message.event_type:
        matching = rules.matching(rules.load(session, tenant_id), message.event_type)
        category = matching[0].category if matching else message.event_type
        critical = any(rule.critical for rule in matching)
    if message.test:
        return category, "test_key"
    if not runtime.channels.providers(message.channel):
        return category, "no_provider"
    if not (message.user_id and category):
        return category, None
    choices = preferences.load(session, tenant_id, [message.user_id])
    decision = choices.allows(message.user_id, category, message.channel, critical=critical)
    return category, None if decision.enabled else f"preference_{decision.decided_by}"
