"""One event, followed by its id through the logs of every process that has to do with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.docs.service import Service
from tests.servers.http import Answer, HttpReceiver

pytestmark = pytest.mark.timeout(300)  # real processes, on a machine that may be busy
PRIVATE = ("ada@example.com", "Ada Lovelace", "a secret word", "/hook-with-a-token", "+15005550006")


@pytest.fixture
def more_settings() -> dict[str, str]:
    """No second try while the first one's lines are read."""
    return {"WEBHOOK_RETRY_DELAY": "600000"}


def lines(service: Service) -> list[dict[str, Any]]:
    """What a command has logged."""
    return [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]


def stations(service: Service, name: str, id_: str) -> list[str]:
    """The names of the lines that have this id, in order."""
    return [line["event"] for line in lines(service) if id_ in (line.get(name) or ())]


def test_an_event_is_followed_by_its_id(web: Service, workers: Service) -> None:
    person = {"userId": "ada", "name": "Ada Lovelace", "email": "ada@example.com", "phone": "+15005550006"}
    with HttpReceiver() as receiver:
        receiver.on("/hook-with-a-token", Answer(500), Answer(204))
        web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook-with-a-token")})
        posted = {"eventType": "order.created", "recipients": [person], "data": {"orderId": "a secret word"}}
        event_id = web.call("POST", "/api/events", posted)["id"]

        def tried() -> list[dict[str, Any]]:
            found = [
                line for line in lines(workers) if line["event"] == "deliveries_tried" and event_id in line["events"]
            ]
            return found if {line["channel"] for line in found} == {"webhook", "in_app"} else []

        results = {line["channel"]: line for line in wait_until(tried, 30)}

    assert stations(web, "events", event_id) == ["event_accepted"]
    (accepted,) = [line for line in lines(web) if event_id in (line.get("events") or ())]
    assert accepted["request_id"]
    assert {"deliveries_claimed", "deliveries_tried"} <= set(stations(workers, "events", event_id))
    assert (results["webhook"]["result"], results["webhook"]["code"]) == ("retried", "http_500")
    assert (results["webhook"]["level"], results["webhook"]["provider"]) == ("warning", "webhook")
    assert (results["in_app"]["result"], results["in_app"]["count"]) == ("sent", 1)
    (delivery,) = results["in_app"]["deliveries"]
    assert {"events_planned", "deliveries_tried"} <= set(stations(workers, "deliveries", delivery))
    (delivery,) = results["webhook"]["deliveries"]
    assert stations(workers, "deliveries", delivery) == ["events_planned", "deliveries_claimed", "deliveries_tried"]
    for private in PRIVATE:
        assert private not in web.log() + workers.log()
