"""The doors of topics, and events that name them."""

from __future__ import annotations

from typing import Any

import pytest

from app.running.worker import InProcessWorker
from tests.conftest import wait_until

NEWS = "/api/topics/news"


def fields_of(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.json
    return {error["field"] for error in answer.json["errors"]}


def test_a_topic_is_made_by_its_first_people_and_can_be_described_and_deleted(
    client: Any, auth: dict[str, str]
) -> None:
    people = f"{NEWS}/recipients"
    assert client.put(people, json={"userIds": ["ada", "bob"]}, headers=auth).json == {"added": 2}
    assert client.put(people, json={"userIds": ["bob", "cy"]}, headers=auth).json == {"added": 1}
    made = client.put(NEWS, json={"description": "Every month"}, headers=auth).json
    assert (made["name"], made["description"]) == ("news", "Every month")
    assert client.get(NEWS, headers=auth).json == {**made, "recipients": 3}
    assert [item["name"] for item in client.get("/api/topics", headers=auth).json["items"]] == ["news"]
    assert client.delete(people, json={"userIds": ["ada", "dan"]}, headers=auth).json == {"removed": 1}
    assert client.get(people, headers=auth).json == {"items": ["bob", "cy"], "nextCursor": None}
    assert client.delete(NEWS, headers=auth).status_code == 204
    for path in (NEWS, people):
        assert client.get(path, headers=auth).status_code == 404
    assert client.delete(NEWS, headers=auth).status_code == 404


def test_a_list_goes_on_from_its_cursor(client: Any, auth: dict[str, str]) -> None:
    client.put(f"{NEWS}/recipients", json={"userIds": ["a/b", "c&d", "é", "zoe"]}, headers=auth)
    seen, query = [], {"limit": "1"}
    for _ in range(4):
        page = client.get(f"{NEWS}/recipients", query_string=query, headers=auth).json
        seen += page["items"]
        query["after"] = page["nextCursor"]
    assert sorted(seen) == ["a/b", "c&d", "zoe", "é"]
    assert page["nextCursor"] is None


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", NEWS, {"description": 5}, "description"),
        ("PUT", NEWS, {"people": []}, "people"),
        ("PUT", "/api/topics/no%20name", {}, "name"),
        ("PUT", "/api/topics/no%20name/recipients", {"userIds": ["ada"]}, "name"),
        ("PUT", f"{NEWS}/recipients", {}, "userIds"),
        ("PUT", f"{NEWS}/recipients", {"userIds": []}, "userIds"),
        ("PUT", f"{NEWS}/recipients", {"userIds": ["ada", ""]}, "userIds.1"),
        ("PUT", f"{NEWS}/recipients", {"userIds": ["u"] * 10_001}, "userIds"),
        ("DELETE", f"{NEWS}/recipients", {"userIds": [7]}, "userIds.0"),
        ("GET", f"{NEWS}/recipients?limit=0", None, "limit"),
        ("POST", "/api/events", {"eventType": "a.b", "topics": "news"}, "topics"),
        ("POST", "/api/events", {"eventType": "a.b", "topics": ["no name"]}, "topics.0"),
        ("POST", "/api/events", {"eventType": "a.b", "topics": ["news"]}, "topics.0"),
    ],
)
def test_what_is_wrong_is_named(
    client: Any, auth: dict[str, str], method: str, path: str, body: Any, field: str
) -> None:
    assert field in fields_of(client.open(path, method=method, json=body, headers=auth))
    assert client.get("/api/topics", headers=auth).json["items"] == []
    assert client.get("/api/events", headers=auth).json["items"] == []


def test_of_a_batch_only_the_events_with_unknown_topics_are_refused(client: Any, auth: dict[str, str]) -> None:
    client.put(f"{NEWS}/recipients", json={"userIds": ["ada"]}, headers=auth)
    events = [{"eventType": "a.b", "topics": names} for names in (["news", "olds"], ["news"], ["olds"])]
    answer = client.post("/api/events/batch", json={"events": events}, headers=auth).json
    assert [item["index"] for item in answer["items"]] == [1]
    assert [(item["index"], item["errors"][0]["field"]) for item in answer["errors"]] == [
        (0, "topics.1"),
        (2, "topics.0"),
    ]


def test_an_event_to_a_topic_shows_how_far_it_has_come(
    client: Any, auth: dict[str, str], worker: InProcessWorker
) -> None:
    # given a list of people without addresses
    client.put(f"{NEWS}/recipients", json={"userIds": [f"user-{n}" for n in range(600)]}, headers=auth)
    body = {"eventType": "user.registered", "userId": "ada", "topics": ["news"]}
    # when an event is posted to it
    path = f"/api/events/{client.post('/api/events', json=body, headers=auth).json['id']}"

    # then each has the bell, and a skipped email and SMS; and the webhook had nowhere to go
    counts = {"planned": 601 * 3 + 1, "sent": 601, "failed": 0, "skipped": 601 * 2 + 1, "pending": 0}

    def done() -> Any:
        # a count that took long, and is of a time before the last people were planned, is shown for a while
        found = client.get(path, headers=auth).json
        return found if found["progress"]["finished"] and counts.items() <= found["progress"].items() else None

    found = wait_until(done, 90)
    assert found["progress"].pop("countedAt") > found["createdAt"]
    assert found["progress"] == {"finished": True, "people": 601, "peoplePlanned": 601, **counts}
    assert (found["topics"], found["userIds"]) == (["news"], ["ada"])


def test_progress_before_planning_says_how_many_people_there_are(client: Any, auth: dict[str, str]) -> None:
    client.put(f"{NEWS}/recipients", json={"userIds": ["ada", "bob"]}, headers=auth)
    made = client.post("/api/events", json={"eventType": "a.b", "userId": "cy", "topics": ["news"]}, headers=auth)
    progress = client.get(f"/api/events/{made.json['id']}", headers=auth).json["progress"]
    assert (progress["finished"], progress["people"], progress["peoplePlanned"]) == (False, 3, 0)


def test_lists_need_the_scope_of_recipients(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/api-keys", json={"name": "k", "scopes": ["recipients:read"]}, headers=auth).json
    key = {"Authorization": f"Bearer {made['key']}"}
    assert client.get("/api/topics", headers=key).status_code == 200
    assert client.put(f"{NEWS}/recipients", json={"userIds": ["ada"]}, headers=key).status_code == 403
