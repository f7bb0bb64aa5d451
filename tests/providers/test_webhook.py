"""Webhooks: the Standard Webhooks scheme as strangers verify it, and what each answer means."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from providers.contract import Accepted, Channel, DeliveryStatus, PermanentError, Provider, RetryableError
from providers.http import HttpClient
from providers.retry_after import parse_retry_after
from providers.webhook.signature import InvalidSignature, new_secret, sign, verify
from providers.webhook.standard import StandardWebhook, check_header
from tests.providers.messages import message, outcome, send
from tests.servers import http as receivers
from tests.servers.http import Answer, HttpReceiver, Received

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as running:
        yield running


@pytest.fixture
def provider() -> Iterator[StandardWebhook]:
    client = HttpClient(allow=["127.0.0.0/8"], timeout_ms=60_000)
    yield StandardWebhook(client)
    client.close()


def hook(url: str, **fields: Any) -> Any:
    return message(Channel.WEBHOOK, url, **{"payload": b'{"type":"a.b"}', "secrets": (SECRET,), **fields})


def verified(got: Received, secret: str) -> Any:
    return Webhook(secret).verify(got.body, dict(got.headers))


@pytest.mark.parametrize(
    ("secret", "message_id", "timestamp", "body", "expected"),
    [
        (SECRET, ID, 1614265330, b'{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        (
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1731705121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
    ],
)
def test_the_published_vectors_hold(secret: str, message_id: str, timestamp: int, body: bytes, expected: str) -> None:
    assert sign(secret, message_id, timestamp, body) == expected
    verify(secret, message_id, str(timestamp), f"v1a,other v1,wrong {expected}", body, now=timestamp + 299)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"body": b"{}"}, "no signature fits"),
        ({"message_id": "msg_other"}, "no signature fits"),
        ({"message_id": "a.b"}, "dot"),
        ({"timestamp": "1614265331"}, "no signature fits"),
        ({"timestamp": "soon"}, "whole number"),
        ({"timestamp": "²"}, "whole number"),
        ({"signatures": ""}, "no signature fits"),
        ({"signatures": "v1,é"}, "no signature fits"),
        ({"now": 1614265330 + 301}, "too far"),
        ({"now": 1614265330 - 301}, "too far"),
    ],
)
def test_what_was_changed_does_not_verify(change: dict[str, Any], why: str) -> None:
    given_ = {
        "secret": SECRET,
        "message_id": ID,
        "timestamp": "1614265330",
        "signatures": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "body": b'{"test": 2432232314}',
        "now": 1614265330,
    }

    with pytest.raises(InvalidSignature, match=why):
        verify(**{**given_, **change})


def test_a_new_secret_is_24_bytes_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(50)}

    assert len(secrets) == 50
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 24 for secret in secrets)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_ü", "whsec_a b", "whsec_abc!"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        sign(secret, ID, 1, b"")


def test_it_is_a_provider(provider: StandardWebhook) -> None:
    assert isinstance(provider, Provider)


def test_a_stranger_verifies_what_came_off_the_wire(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    body = '{"type":"order.created","data":{"name":"Zoë 🎉"}}'.encode()

    result = outcome(provider, hook(receiver.url("/hook"), payload=body, delivery_id=ID, headers={"X-Shop": "42"}))

    got = receiver.ledger[0]
    assert verified(got, SECRET) == {"type": "order.created", "data": {"name": "Zoë 🎉"}}
    assert got.body == body
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == ID
    assert got.headers["x-shop"] == "42"
    assert got.raw_head.lower().count(b"user-agent: tidings\r\n") == got.raw_head.lower().count(b"user-agent") == 1
    assert isinstance(result, Accepted)
    assert result.status is DeliveryStatus.DELIVERED


def test_both_keys_sign_during_a_rotation(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    old, new = new_secret(), new_secret()

    outcome(provider, hook(receiver.url(), secrets=(new, old)))

    got = receiver.ledger[0]
    verified(got, old)
    verified(got, new)
    assert [entry.count(",") for entry in got.headers["webhook-signature"].split(" ")] == [1, 1]


def test_each_attempt_is_signed_at_its_own_time(receiver: HttpReceiver) -> None:
    times = iter([1_700_000_000.9, 1_700_000_005.1])
    provider = StandardWebhook(HttpClient(allow=["127.0.0.0/8"]), now=lambda: next(times))

    outcome(provider, hook(receiver.url()))
    outcome(provider, hook(receiver.url(), attempt=2))

    first, second = receiver.ledger
    assert (first.headers["webhook-timestamp"], second.headers["webhook-timestamp"]) == ("1700000000", "1700000005")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


def test_the_attempt_is_told_in_full_and_without_secrets(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    receiver.default = Answer(200, {"X-Request": "r1"}, b"thanks")

    result = send(provider, hook(receiver.url(), headers={"Authorization": "Bearer top-secret"}))[0]

    assert isinstance(result.outcome, Accepted)
    detail = result.outcome.detail
    assert (detail["status"], detail["responseBody"], detail["truncated"]) == (200, "thanks", False)
    assert detail["responseHeaders"]["x-request"] == "r1"
    assert detail["peer"] == f"127.0.0.1:{receiver.port}"
    assert detail["times"]["total"] <= detail["durationMs"]
    assert detail["requestHeaders"]["Authorization"] == "***"
    assert "top-secret" not in repr(detail)
    assert SECRET not in repr(detail)
    assert receiver.ledger[0].headers["authorization"] == "Bearer top-secret"
    assert result.started_at.tzinfo is UTC


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 400, 401, 403, 404, 408, 409, 418, 425, 429, 500, 503, 599]
)
def test_all_that_is_not_2xx_is_tried_again(receiver: HttpReceiver, provider: StandardWebhook, status: int) -> None:
    receiver.default = Answer(status, {"location": receiver.url("/elsewhere")})

    result = outcome(provider, hook(receiver.url()))

    assert isinstance(result, RetryableError)
    assert result.code == f"http_{status}"
    assert len(receiver.ledger) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_all_of_2xx_is_delivered(receiver: HttpReceiver, provider: StandardWebhook, status: int) -> None:
    receiver.default = Answer(status)

    assert isinstance(outcome(provider, hook(receiver.url())), Accepted)


def test_gone_disables_the_endpoint(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    receiver.default = Answer(410)

    result = outcome(provider, hook(receiver.url()))

    assert isinstance(result, PermanentError)
    assert (result.code, result.disable_endpoint, result.detail["status"]) == ("gone", True, 410)


def test_retry_after_is_passed_on(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    receiver.default = Answer(429, {"retry-after": "120"})

    assert outcome(provider, hook(receiver.url())).retry_after == 120


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("Wed, 21 Oct 2015 07:28:10 GMT", 10),
        ("Wednesday, 21-Oct-15 07:28:10 GMT", 10),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
        ("9" * 5000, 999999999999),
        ("", None),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 99 Oct 2015 07:28:10 GMT", None),
        ("Wed, 21 Oct 99999 07:28:10 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    now = datetime(2015, 10, 21, 7, 28, tzinfo=UTC).timestamp()

    assert parse_retry_after(value, now) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_can_harm(value: str) -> None:
    found = parse_retry_after(value, 0.0)

    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (receivers.hang(), "timeout"),
        (receivers.close_inside_headers(), "truncated"),
        (receivers.reset(), "connection_reset"),
    ],
)
def test_a_fault_on_the_way_is_tried_again(receiver: HttpReceiver, script: receivers.Raw, code: str) -> None:
    receiver.default = script
    patience = 300 if code == "timeout" else 60_000
    provider = StandardWebhook(HttpClient(allow=["127.0.0.0/8"], timeout_ms=patience))

    result = outcome(provider, hook(receiver.url()))

    assert isinstance(result, RetryableError)
    assert result.code == code
    assert {"durationMs", "requestHeaders", "times"} <= set(result.detail)


def test_an_inner_address_is_refused_and_not_described(receiver: HttpReceiver) -> None:
    result = outcome(StandardWebhook(HttpClient()), hook(receiver.url()))

    assert (result.code, receiver.connections) == ("blocked_address", 0)
    assert "peer" not in result.detail


@pytest.mark.parametrize(
    "fields",
    [
        {"to": "ftp://example.com/"},
        {"delivery_id": "a.b"},
        {"secrets": ("not a secret",)},
        {"headers": {"webhook-id": "other"}},
        {"headers": {"Host": "inner"}},
        {"headers": {"x": "a\r\nb: c"}},
        {"headers": {"x": "\ud800"}},
    ],
)
def test_what_no_try_can_heal_fails_for_good_and_alone(
    receiver: HttpReceiver, provider: StandardWebhook, fields: dict[str, Any]
) -> None:
    bad, good = hook(**{"url": receiver.url(), **_renamed(fields)}), hook(receiver.url("/good"))

    results = send(provider, bad, good)

    assert isinstance(results[0].outcome, PermanentError)
    assert isinstance(results[1].outcome, Accepted)
    assert [got.path for got in receiver.ledger] == ["/good"]


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {"url" if name == "to" else name: value for name, value in fields.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Webhook-Id", "a"),
        ("content-type", "a"),
        ("Content-Length", "1"),
        ("host", "a"),
        ("Connection", "close"),
        ("transfer-encoding", "chunked"),
        ("user-agent", "a"),
        ("", "a"),
        ("a b", "a"),
        ("a:b", "a"),
        ("ä", "a"),
        ("a\n", "a"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("x", "\x7f"),
    ],
)
def test_a_reserved_or_broken_header_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        check_header(name, value)


def test_a_bug_of_ours_harms_only_its_own_message(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    bad, good = hook(receiver.url(), headers=None), hook(receiver.url())

    results = send(provider, bad, good)

    assert isinstance(results[0].outcome, AttributeError)
    assert isinstance(results[1].outcome, Accepted)


def test_a_message_without_secrets_goes_unsigned(receiver: HttpReceiver, provider: StandardWebhook) -> None:
    outcome(provider, hook(receiver.url(), secrets=()))

    assert "webhook-signature" not in receiver.ledger[0].headers


def test_one_hanging_receiver_holds_back_no_other(receiver: HttpReceiver) -> None:
    receiver.on("/hang", receivers.hang())
    provider = StandardWebhook(HttpClient(allow=["127.0.0.0/8"], timeout_ms=4_000))
    paths = ["/hang", *["/ok"] * 60, "/hang"]
    messages = [hook(receiver.url(path), delivery_id=f"d{number}") for number, path in enumerate(paths)]

    results = list(provider.send_batch(messages, float("inf")))

    assert [isinstance(result.outcome, Accepted) for result in results] == [True] * 60 + [False] * 2
    assert {result.message.delivery_id for result in results} == {f"d{number}" for number in range(62)}


def test_what_was_not_begun_before_the_deadline_has_no_result(
    receiver: HttpReceiver, provider: StandardWebhook
) -> None:
    assert list(provider.send_batch([hook(receiver.url())], 0.0)) == []
    assert receiver.ledger == []
