"""An event and a person as templates and conditions see them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.core.recipients import Person
from app.models.base import utc_text


def event_context(event_id: str, event_type: str, occurred_at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """An event as templates and conditions see it."""
    return {"id": event_id, "type": event_type, "occurredAt": utc_text(occurred_at), "data": data}


def person_context(user_id: str | None, person: Person | None) -> dict[str, Any]:
    """A person as templates and conditions see them; what is not known is left out."""
    if person is None:
        return {"userId": user_id} if user_id else {}
    known = {
        "userId": person.user_id,
        "name": person.name,
        "email": person.email,
        "phone": person.phone,
        "locale": person.locale,
        "timeZone": person.time_zone,
        "attributes": person.attributes,
    }
    return {key: value for key, value in known.items() if value is not None}
