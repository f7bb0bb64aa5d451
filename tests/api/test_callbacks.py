"""Twilio's status callbacks: signed, applied, and never a reason to try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twilio.request_validator import RequestValidator

from app import create_app
from app.config import Settings

TOKEN = "twilio-token-for-tests"
PUBLIC = "https://tidings.example.com"


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(
        **values,
        public_url=PUBLIC,
        sms_provider=("twilio",),
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token=TOKEN,
        twilio_phone_number="+15005550006",
        twilio_api_url="http://127.0.0.1:9",
    )


@pytest.fixture
def delivery(client: Any, auth: dict[str, str]) -> str:
    sent = client.post("/api/send/sms", json={"to": "+15005550001", "message": "Hello"}, headers=auth)
    return str(sent.json["deliveries"][0]["id"])


def call(client: Any, path: str, form: dict[str, str], *, token: str = TOKEN, host: str = "") -> Any:
    signature = RequestValidator(token).compute_signature(PUBLIC + path, form)
    headers = {"X-Twilio-Signature": signature} | ({"Host": host} if host else {})
    return client.post(path, data=form, headers=headers)


def test_a_signed_word_moves_the_delivery_on(client: Any, auth: dict[str, str], delivery: str) -> None:
    path = f"/callbacks/twilio/status?delivery={delivery}"

    for status in ("sent", "delivered"):
        answer = call(client, path, {"MessageStatus": status, "MessageSid": "SM1"}, host="evil.example")
        assert answer.status_code == 204

    found = client.get(f"/api/deliveries/{delivery}", headers=auth).json
    assert (found["status"], found["providerId"]) == ("delivered", "SM1")
    assert found["sentAt"]
    assert found["deliveredAt"]


def test_an_unsigned_word_is_refused(client: Any, auth: dict[str, str], delivery: str) -> None:
    path = f"/callbacks/twilio/status?delivery={delivery}"
    form = {"MessageStatus": "delivered", "MessageSid": "SM1"}

    forged = call(client, path, form, token="guess")
    missing = client.post(path, data=form)
    other = client.post(
        path,
        data=form | {"MessageStatus": "failed"},
        headers={"X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(PUBLIC + path, form)},
    )

    assert [a.status_code for a in (forged, missing, other)] == [403, 403, 403]
    assert client.get(f"/api/deliveries/{delivery}", headers=auth).json["status"] == "pending"


@pytest.mark.parametrize("name", ["", "x", "0193d0f0-0000-7000-8000-000000000000", "a%00b"])
def test_an_unknown_delivery_is_acknowledged(client: Any, name: str) -> None:
    path = f"/callbacks/twilio/status?delivery={name}"

    assert call(client, path, {"MessageStatus": "delivered"}).status_code == 204
    assert call(client, path, {"MessageStatus": "something new"}).status_code == 204


def test_without_twilio_there_is_no_callback(shape_settings: dict[str, Any]) -> None:
    client = create_app(Settings(**shape_settings)).test_client()

    assert client.post("/callbacks/twilio/status").status_code == 404
