"""A user id is the caller's own: whatever stands in it, its person is shown everything and removed everywhere."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from app.core import pipeline
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.models import Event, EventDedupe, InAppNotification
from tests.core.helpers import drain, rows_of

IDS = [
    'quo"te-12345',
    "back\\slash-123",
    'q"1',
    "ÖZGÜR-12345",
    "özgür-12345",
    "ßİX-99999",
    "Иван-12345",
    "a%_b-1234",
    "🦉-owl-1234",
]


@pytest.fixture
def told(client: Any, auth: dict[str, str], user_id: str) -> dict[str, Any]:
    """An event that names the person, also in its data, for them alone."""
    body = {"eventType": "order.created", "recipients": [user_id], "data": {"who": user_id}}
    found: dict[str, Any] = client.post("/api/events", json=body | {"dedupe": {"key": user_id}}, headers=auth).json
    return found


@pytest.mark.parametrize("user_id", IDS)
def test_a_person_is_shown_the_events_that_named_them(
    client: Any, auth: dict[str, str], user_id: str, told: dict[str, Any]
) -> None:
    found = client.get(f"/api/recipients/{quote(user_id, safe='')}/export", headers=auth)
    assert found.status_code == 200
    assert [event["id"] for event in found.json["events"]] == [told["id"]]


@pytest.mark.parametrize("user_id", IDS)
def test_an_erased_person_is_named_nowhere_and_told_nothing_more(
    client: Any, auth: dict[str, str], runtime: Runtime, tenant_id: str, user_id: str, told: dict[str, Any]
) -> None:
    # given somebody who is known, and an event that is still to be planned
    path = f"/api/recipients/{quote(user_id, safe='')}"
    client.put(path, json={"name": "Somebody"}, headers=auth)
    client.post("/api/events", json={"eventType": "order.created", "recipients": [user_id], "data": {}}, headers=auth)
    # when they are erased, and the work goes on
    receipt = client.delete(f"{path}?erase=true", headers=auth).json
    assert receipt["finishedAt"]
    pipeline.plan_events(runtime, Lane.NORMAL)
    drain(runtime)
    # then nothing of them is left, and nothing has come
    events = rows_of(runtime, tenant_id, Event)
    assert [(event.user_ids, event.data) for event in events] == [([], {})] * 2
    assert not [row.key for row in rows_of(runtime, tenant_id, EventDedupe) if user_id in row.key]
    assert not rows_of(runtime, tenant_id, InAppNotification)
    assert client.get(f"{path}/export", headers=auth).status_code == 404
