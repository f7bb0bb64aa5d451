"""Direct sends: the fields as published, refused by name, one delivery for each address."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from sqlalchemy import func, select

from app.core.runtime import Runtime
from app.models import Delivery, DeliveryContent
from app.tenancy import Purpose, system

FILE = {"filename": "a.txt", "content": base64.b64encode(b"hello").decode(), "contentType": "text/plain"}
EMAIL = {"to": "ada@example.com", "subject": "Hi", "text": "Hello"}
SMS = {"to": "+15005550006", "message": "Hello"}
WEBHOOK = {"url": "http://127.0.0.1:9/hook", "payload": {"a": 1}}
IN_APP = {"userId": "ada", "title": "Hi", "message": "Hello"}


def count(runtime: Runtime) -> int:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        return session.execute(select(func.count()).select_from(Delivery)).scalar_one()


def parts_of(runtime: Runtime, delivery_id: str) -> dict[str, Any]:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        query = select(DeliveryContent.parts).where(DeliveryContent.id == delivery_id)
        return session.execute(query).scalar_one()


def test_content_for_many_addresses_is_bounded(client: Any, auth: dict[str, str]) -> None:
    # given a file of 2 MB, and text of 60 kB
    file = {"filename": "a.pdf", "content": base64.b64encode(bytes(2_000_000)).decode()}
    mail = {"subject": "s", "text": "t", "attachments": [file]}
    many = [f"ada{n}@example.com" for n in range(1000)]

    # when it goes to a hundred addresses at once
    refused = client.post("/api/send/email", json=mail | {"to": many[:100]}, headers=auth)
    long = client.post("/api/send/email", json={"to": many, "subject": "s", "text": "t" * 60_000}, headers=auth)
    few = client.post("/api/send/email", json=mail | {"to": many[:3]}, headers=auth)

    # then that is refused by name, and to a few it is not
    assert (refused.status_code, [e["field"] for e in refused.json["errors"]]) == (422, ["attachments"])
    assert (long.status_code, [e["field"] for e in long.json["errors"]]) == (422, ["to"])
    assert few.status_code == 202
    assert len(client.get("/api/deliveries", headers=auth).json["items"]) == 3


def test_each_address_gets_one_and_copies_ride_on_the_first(
    client: Any, auth: dict[str, str], runtime: Runtime
) -> None:
    body = {
        "to": ["ada@example.com", "Bob <bob@example.com>", "ada@example.com"],
        "subject": "Grüße",
        "text": "Hello",
        "html": "<p>Hello</p>",
        "from": "Shop <shop@example.com>",
        "replyTo": "help@example.com",
        "cc": "cc@example.com",
        "bcc": ["b1@example.com", "b2@example.com"],
        "attachments": [FILE],
        "headers": {"X-Order": "A-1", "List-Unsubscribe": "<https://example.com/u>"},
        "userId": "ada",
        "eventType": "order.created",
    }

    answer = client.post("/api/send/email", json=body, headers=auth)

    assert answer.status_code == 202, answer.json
    first, second = answer.json["deliveries"]
    assert [first["to"], second["to"]] == ["ada@example.com", "Bob <bob@example.com>"]
    assert (first["channel"], first["eventType"], first["userId"]) == ("email", "order.created", "ada")
    kept, other = parts_of(runtime, first["id"]), parts_of(runtime, second["id"])
    assert kept["sender"] == "Shop <shop@example.com>"
    assert (kept["cc"], kept["bcc"]) == (["cc@example.com"], ["b1@example.com", "b2@example.com"])
    assert kept["attachments"] == [FILE]
    assert "cc" not in other
    assert "bcc" not in other
    shown = client.get(f"/api/deliveries/{first['id']}", headers=auth).json
    assert shown["content"]["subject"] == "Grüße"
    assert shown["content"]["attachments"] == [{"filename": "a.txt", "contentType": "text/plain", "size": 5}]


def test_the_other_channels_take_what_is_published(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    sms = client.post("/api/send/sms", json=SMS | {"to": "+1 500 555 0006"}, headers=auth).json["deliveries"][0]
    hook = client.post("/api/send/webhook", json=WEBHOOK | {"payload": {"b": 1, "a": "ü"}}, headers=auth)
    bell = client.post("/api/send/in-app", json=IN_APP | {"type": "success", "actionUrl": "/o/7"}, headers=auth)

    assert sms["to"] == "+15005550006"
    assert parts_of(runtime, sms["id"]) == {"text": "Hello"}
    assert parts_of(runtime, hook.json["deliveries"][0]["id"]) == {"payload": '{"b":1,"a":"ü"}'}
    kept = parts_of(runtime, bell.json["deliveries"][0]["id"])
    assert kept == {"title": "Hi", "text": "Hello", "type": "success", "actionUrl": "/o/7"}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("email", {"to": None}, "to"),
    ("email", {"to": []}, "to"),
    ("email", {"to": "nobody"}, "to"),
    ("email", {"to": ["ada@example.com", "x@"]}, "to.1"),
    ("email", {"to": "ada@example.com\nBcc: eve@example.com"}, "to"),
    ("email", {"to": 5}, "to"),
    ("email", {"to": {"a": 1}}, "to"),
    ("email", {"subject": "a\nBcc: eve@example.com"}, "subject"),
    ("email", {"subject": "x" * 999}, "subject"),
    ("email", {"text": ""}, "text"),
    ("email", {"from": "a@b, c@d"}, "from"),
    ("email", {"replyTo": "x"}, "replyTo"),
    ("email", {"cc": ["x"]}, "cc.0"),
    ("email", {"bcc": "x"}, "bcc"),
    ("email", {"headers": {"Bcc": "eve@example.com"}}, "headers.Bcc"),
    ("email", {"headers": {"Content-Type": "x"}}, "headers.Content-Type"),
    ("email", {"headers": {"X-A": "a\r\nB: c"}}, "headers.X-A"),
    ("email", {"headers": {"X-A": 5}}, "headers.X-A"),
    ("email", {"headers": []}, "headers"),
    ("email", {"attachments": [{"filename": "a"}]}, "attachments.0.content"),
    ("email", {"attachments": [FILE | {"content": "%%"}]}, "attachments.0.content"),
    ("email", {"attachments": [FILE, FILE | {"filename": "../a"}]}, "attachments.1.filename"),
    ("email", {"attachments": [FILE | {"contentType": "x\r\ny"}]}, "attachments.0.contentType"),
    ("email", {"attachments": [FILE | {"path": "/etc/passwd"}]}, "attachments.0.path"),
    ("email", {"attachments": [FILE] * 21}, "attachments"),
    ("email", {"sender": "a@b"}, "sender"),
    ("sms", {"to": "12"}, "to"),
    ("sms", {"to": "call me"}, "to"),
    ("sms", {"message": ""}, "message"),
    ("sms", {"message": "x" * 1601}, "message"),
    ("webhook", {"url": "ftp://example.com"}, "url"),
    ("webhook", {"url": "http://169.254.169.254/latest"}, "url"),
    ("webhook", {"url": "http://user:secret@example.com"}, "url"),
    ("webhook", {"url": "http://10.0.0.1/"}, "url"),
    ("webhook", {"url": 5}, "url"),
    ("in-app", {"userId": ""}, "userId"),
    ("in-app", {"type": "fatal"}, "type"),
    ("in-app", {"title": ""}, "title"),
    ("in-app", {"actionUrl": "javascript:alert(1)"}, "actionUrl"),
    ("in-app", {"actionUrl": "//evil.example"}, "actionUrl"),
    ("in-app", {"actionUrl": "/\\evil.example"}, "actionUrl"),
    ("in-app", {"actionUrl": "java\tscript:alert(1)"}, "actionUrl"),
    ("in-app", {"actionUrl": " https://example.com"}, "actionUrl"),
    ("in-app", {"actionUrl": "data:text/html,x"}, "actionUrl"),
    ("in-app", {"actionUrl": "https:"}, "actionUrl"),
    ("in-app", {"actionUrl": "http://[x"}, "actionUrl"),
]
GOOD = {"email": EMAIL, "sms": SMS, "webhook": WEBHOOK, "in-app": IN_APP}


@pytest.mark.parametrize(("channel", "change", "field"), BAD)
def test_bad_input_names_its_field_and_nothing_is_stored(
    client: Any, auth: dict[str, str], runtime: Runtime, channel: str, change: dict[str, Any], field: str
) -> None:
    body = json.dumps(GOOD[channel] | change)
    answer = client.post(f"/api/send/{channel}", data=body, content_type="application/json", headers=auth)

    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert count(runtime) == 0


@pytest.mark.parametrize("link", ["/", "/orders/7?x=1#y", "orders/7", "https://example.com/a", "HTTP://example.com"])
def test_links_to_the_own_site_or_the_web_are_taken(client: Any, auth: dict[str, str], link: str) -> None:
    assert client.post("/api/send/in-app", json=IN_APP | {"actionUrl": link}, headers=auth).status_code == 202


def test_a_preference_is_honoured_when_person_and_type_are_named(client: Any, auth: dict[str, str]) -> None:
    wishes = {"items": [{"category": "orders", "channel": "in_app", "enabled": False}]}
    assert client.put("/api/notifications/preferences?userId=ada", json=wishes, headers=auth).status_code == 200

    named = client.post("/api/send/in-app", json=IN_APP | {"eventType": "order.created"}, headers=auth)
    unnamed = client.post("/api/send/in-app", json=IN_APP, headers=auth)

    assert named.json["deliveries"][0]["status"] == "skipped"
    assert named.json["deliveries"][0]["reason"].startswith("preference")
    assert unnamed.json["deliveries"][0]["status"] == "pending"


def test_what_a_test_key_sends_is_skipped(client: Any, auth: dict[str, str]) -> None:
    key = client.post("/api/api-keys", json={"name": "t", "kind": "test"}, headers=auth).json["key"]

    sent = client.post("/api/send/in-app", json=IN_APP, headers={"Authorization": f"Bearer {key}"})

    assert (sent.json["deliveries"][0]["status"], sent.json["deliveries"][0]["reason"]) == ("skipped", "test_key")
