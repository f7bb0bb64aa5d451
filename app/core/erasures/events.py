"""Taking a person out of one event, whether it was planned, is being planned or waits."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from app.core.erasures.redaction import cleaned
from app.core.erasures.work import Work
from app.models import Event, Topic, TopicRecipient


def clean_event(work: Work, event: Event) -> bool:
    """Take the person out of an event. Returns whether it held anything of theirs."""
    before = (event.user_ids, event.data, event.dedupe_key)
    if work.user_id in event.user_ids:
        _leave_out(event, work)
    else:
        event.data = cleaned(event.data, work.words)
    if event.topic_after == work.user_id:
        step_back(work, event)
    event.dedupe_key = None if event.dedupe_key == work.user_id else cleaned(event.dedupe_key, work.words)
    return before != (event.user_ids, event.data, event.dedupe_key)


def _leave_out(event: Event, work: Work) -> None:
    others = [user_id for user_id in event.user_ids if user_id != work.user_id]
    if event.user_ids.index(work.user_id) < event.cursor:
        event.cursor -= 1
    event.user_ids = others
    if event.status == "planning":
        fence(event, work.now)
    if others or event.topics:
        event.data = cleaned(event.data, work.words)
        return
    event.data = {}
    if event.status == "received":
        event.status, event.planned_at = "planned", work.now
        event.notes = [*event.notes, {"ruleId": None, "reason": "the person whom it named was erased", "count": 1}]
    work.alone.append(event.id)


def fence(event: Event, now: datetime) -> None:
    """Whoever is planning this event has read what is no longer so: let nobody's page but a new one be written."""
    event.attempt += 1
    event.status, event.lease_until, event.next_attempt_at = "received", None, now


def step_back(work: Work, event: Event) -> None:
    """Keep the place in a list that this person was the last to have, by whoever stood before them.

    The person is on the list no more, so that planning goes on with the same people as it would have.
    """
    before = (
        select(TopicRecipient.user_id)
        .join(Topic, (Topic.id == TopicRecipient.topic_id) & (Topic.tenant_id == work.tenant_id))
        .where(TopicRecipient.tenant_id == work.tenant_id, TopicRecipient.user_id < work.user_id)
        .where(Topic.name.in_(event.topics[event.topic_index :][:1]))
        .order_by(TopicRecipient.user_id.desc())
        .limit(1)
    )
    event.topic_after = work.session.scalars(before).first() or ""
