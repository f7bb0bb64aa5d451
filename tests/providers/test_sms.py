"""SMS: numbers, segments, and Twilio's library against a look-alike of its API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import Accepted, Channel, DeliveryStatus, PermanentError, Provider, RetryableError
from providers.sms.numbers import normalise
from providers.sms.segments import count
from providers.sms.twilio import STATUS, InvalidSignature, Twilio
from tests.providers.messages import message, outcome, send
from tests.servers.http import Answer, HttpReceiver, close_inside_headers, hang
from tests.servers.twilio import TwilioServer

TO, FROM = "+14155550100", "+14155550199"


@pytest.fixture
def server() -> Iterator[TwilioServer]:
    with TwilioServer() as running:
        yield running


@pytest.fixture
def provider(server: TwilioServer) -> Iterator[Twilio]:
    made = twilio(server)
    yield made
    made.close()


def twilio(server: TwilioServer, **options: Any) -> Twilio:
    return Twilio(
        **{"account_sid": server.account_sid, "auth_token": server.auth_token, "sender": FROM}
        | {"base_url": server.base_url, "timeout_s": 30.0, **options}
    )


def sms(to: str = TO, **fields: Any) -> Any:
    return message(Channel.SMS, to, **{"text": "Hello", **fields})


@pytest.mark.parametrize(
    ("text", "encoding", "units", "segments"),
    [
        ("", "GSM-7", 0, 1),
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("a" * 306, "GSM-7", 306, 2),
        ("a" * 307, "GSM-7", 307, 3),
        ("€" * 80, "GSM-7", 160, 1),
        ("€" * 81, "GSM-7", 162, 2),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3),
        ("@£$¥èéùìòÇØøÅåΔΩß^{}[]~|\\", "GSM-7", 33, 1),
        ("ç", "UCS-2", 1, 1),
        ("ж" * 70, "UCS-2", 70, 1),
        ("ж" * 71, "UCS-2", 71, 2),
        ("ж" * 134, "UCS-2", 134, 2),
        ("ж" * 135, "UCS-2", 135, 3),
        ("🎉" * 35, "UCS-2", 70, 1),
        ("🎉" * 36, "UCS-2", 72, 2),
        ("🎉" * 67, "UCS-2", 134, 3),
    ],
)
def test_segments_are_counted(text: str, encoding: str, units: int, segments: int) -> None:
    counted = count(text)

    assert (counted.encoding, counted.units, counted.count) == (encoding, units, segments)


@given(st.text(max_size=500))
def test_segments_always_hold_the_text(text: str) -> None:
    counted = count(text)
    single, each = (160, 153) if counted.encoding == "GSM-7" else (70, 67)

    assert counted.units <= max(single, counted.count * each)
    assert counted.count == 1 or counted.units > single


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("+14155550100", None, "+14155550100"),
        ("+1 (415) 555-0100", None, "+14155550100"),
        ("030 901820", "DE", "+4930901820"),
        ("0049 30 901820", "DE", "+4930901820"),
    ],
)
def test_numbers_are_brought_into_one_form(number: str, region: str | None, expected: str) -> None:
    assert normalise(number, region) == expected


@pytest.mark.parametrize(
    "number", ["", "12345", "030 901820", "+0123456789", "+12345", "+1234567890123456", "x" * 10_000]
)
def test_what_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(PermanentError) as caught:
        normalise(number)

    assert caught.value.code == "invalid_number"


def test_it_is_a_provider(provider: Twilio) -> None:
    assert isinstance(provider, Provider)


def test_a_message_is_taken(server: TwilioServer, provider: Twilio) -> None:
    result = outcome(provider, sms(text="Zoë 🎉", status_callback="https://x.example/callbacks?delivery=d1"))

    got = server.ledger[0]
    assert (got.to, got.sender, got.body) == (TO, FROM, "Zoë 🎉")
    assert got.status_callback == "https://x.example/callbacks?delivery=d1"
    assert isinstance(result, Accepted)
    assert (result.provider_id, result.status) == (got.sid, DeliveryStatus.SENT)
    assert result.detail == {"providerStatus": "queued", "segments": 1, "encoding": "UCS-2"}


def test_a_message_may_name_its_own_sender(server: TwilioServer, provider: Twilio) -> None:
    outcome(provider, sms(sender="+14155550142"))

    assert server.ledger[0].sender == "+14155550142"


@pytest.mark.parametrize("number", ["", "4155550100", "+0155550100", "+1415555010\n", "tel:+14155550100", "+१२३४५६७८"])
def test_what_is_no_number_is_never_sent(server: TwilioServer, provider: Twilio, number: str) -> None:
    result = outcome(provider, sms(number))

    assert isinstance(result, PermanentError)
    assert (result.code, server.http.ledger) == ("invalid_number", [])


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (400, 21211, "invalid_number"),
        (400, 21610, "unsubscribed"),
        (400, 21612, "unroutable_number"),
        (400, 21614, "not_a_mobile_number"),
        (400, 21617, "message_too_long"),
        (400, 30005, "unknown_handset"),
    ],
)
def test_a_blamed_number_or_message_is_permanent(
    server: TwilioServer, provider: Twilio, status: int, code: int, name: str
) -> None:
    server.fail(TO, status, code)

    result = outcome(provider, sms())

    assert isinstance(result, PermanentError)
    assert (result.code, result.detail) == (name, {"status": status, "twilioCode": code})


@pytest.mark.parametrize(
    ("status", "code", "name", "loud"),
    [
        (401, 20003, "twilio_20003", True),
        (403, 20003, "twilio_20003", True),
        (403, 403, "http_403", True),
        (400, 21606, "twilio_21606", True),
        (400, 21408, "twilio_21408", True),
        (429, 20429, "twilio_20429", False),
        (500, 20500, "twilio_20500", False),
        (503, 503, "http_503", False),
        (400, 99999, "twilio_99999", False),
    ],
)
def test_all_else_is_tried_again(
    server: TwilioServer, provider: Twilio, status: int, code: int, name: str, loud: bool
) -> None:
    server.fail(TO, status, code, {"Retry-After": "17"})

    result = outcome(provider, sms())

    assert isinstance(result, RetryableError)
    assert (result.code, result.loud, result.retry_after) == (name, loud, 17)


def test_wrong_credentials_are_loud_and_shown_nowhere(server: TwilioServer) -> None:
    provider = twilio(server, auth_token="wr0ng")

    result = outcome(provider, sms())
    provider.close()

    assert isinstance(result, RetryableError)
    assert (result.code, result.loud) == ("twilio_20003", True)
    assert "wr0ng" not in f"{result} {result.detail}"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (hang(), "timeout"),
        (close_inside_headers(), "bad_response"),
        (Answer(502, {}, b"<html>bad gateway"), "http_502"),
        (Answer(200, {}, b"not json"), "bad_response"),
        (Answer(302, {"location": "http://127.0.0.1:9/"}), "http_302"),
    ],
)
def test_an_api_that_is_ill_is_tried_again(script: Any, code: str) -> None:
    with HttpReceiver() as ill:
        ill.default = script
        patience = 0.3 if code == "timeout" else 30.0
        provider = Twilio("AC1", "token", FROM, base_url=ill.url(""), timeout_s=patience)

        result = outcome(provider, sms())
        provider.close()

        assert isinstance(result, RetryableError)
        assert result.code == code


def test_nobody_listening_is_tried_again() -> None:
    with HttpReceiver() as gone:
        url = gone.url("")
    provider = Twilio("AC1", "token", FROM, base_url=url, timeout_s=30)

    assert outcome(provider, sms()).code == "connection_failed"
    provider.close()


def test_a_batch_goes_many_at_a_time_on_few_connections(server: TwilioServer, provider: Twilio) -> None:
    server.fail("+14155559999", 400, 21211)
    numbers = [f"+1415555{number:04d}" for number in range(40)] + ["+14155559999"]

    results = send(provider, *(sms(number, delivery_id=f"d{number}") for number in numbers))

    assert [isinstance(result.outcome, Accepted) for result in results] == [True] * 40 + [False]
    assert server.http.connections <= 8
    assert {got.to for got in server.ledger} == set(numbers[:-1])


def test_what_was_not_begun_before_the_deadline_has_no_result(server: TwilioServer, provider: Twilio) -> None:
    assert list(provider.send_batch([sms()], time.monotonic() - 1)) == []
    assert server.http.ledger == []


def test_no_proxy_or_netrc_of_the_environment_is_used(
    server: TwilioServer, provider: Twilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TWILIO_REGION", "au1")

    assert isinstance(outcome(provider, sms()), Accepted)


class Form(dict[str, Any]):
    """A form in which a name may have several values, as web frameworks make them."""

    def getlist(self, name: str) -> list[str]:
        value = self[name]
        return value if isinstance(value, list) else [value]


PARAMS = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}


@pytest.mark.parametrize(
    "url", ["https://mycompany.com/myapp.php?foo=1&bar=2", "https://mycompany.com:443/myapp.php?foo=1&bar=2"]
)
def test_twilios_own_vector_holds_with_and_without_the_port(url: str) -> None:
    provider = Twilio("AC1", "12345", FROM)

    assert provider.parse_status(url, PARAMS, "RSOYDt4T1cUTdK1PDd93/VVr8B8=") is None
    with pytest.raises(InvalidSignature):
        provider.parse_status(url, {**PARAMS, "Digits": "1235"}, "RSOYDt4T1cUTdK1PDd93/VVr8B8=")


@pytest.mark.parametrize("signature", ["", "x", "RSOYDt4T1cUTdK1PDd93/VVr8B9=", "é" * 28])
def test_a_wrong_signature_is_refused(signature: str) -> None:
    with pytest.raises(InvalidSignature):
        Twilio("AC1", "12345", FROM).parse_status("https://mycompany.com/myapp.php?foo=1&bar=2", PARAMS, signature)


def test_without_a_token_no_callback_is_believed() -> None:
    provider, url = Twilio("AC1", "", FROM), "https://x.example/s?delivery=d1"
    params = {"MessageSid": "SM1", "MessageStatus": "delivered"}

    with pytest.raises(InvalidSignature):
        provider.parse_status(url, params, provider._validator.compute_signature(url, params))


def test_a_name_with_several_values_is_signed_by_all(server: TwilioServer, provider: Twilio) -> None:
    url = "https://x.example/callbacks/twilio/status?delivery=d1"
    form = Form(MessageSid="SM1", MessageStatus="sent", Extra=["b", "a", "a"])
    signature = provider._validator.compute_signature(url, form)

    update = provider.parse_status(url, form, signature)

    assert update is not None
    assert update.status is DeliveryStatus.SENT


@pytest.mark.parametrize(("word", "status"), sorted(STATUS.items()))
def test_each_word_of_twilios_has_one_of_ours(word: str, status: DeliveryStatus) -> None:
    provider, url = Twilio("AC1", "12345", FROM), "https://x.example/callbacks/twilio/status?delivery=d-1"
    params = {"MessageSid": "SM1", "MessageStatus": word, "ErrorCode": "30005", "Unknown": "kept"}

    update = provider.parse_status(url, params, provider._validator.compute_signature(url, params))

    assert update is not None
    assert (update.status, update.delivery_id, update.provider_id) == (status, "d-1", "SM1")
    assert update.reason == "unknown_handset"
    assert update.raw == params


def test_a_word_that_nobody_knows_is_passed_by() -> None:
    provider, url = Twilio("AC1", "12345", FROM), "https://x.example/s"
    params = {"MessageSid": "SM1", "MessageStatus": "levitating"}

    assert provider.parse_status(url, params, provider._validator.compute_signature(url, params)) is None


def test_the_look_alike_calls_back_signed(server: TwilioServer, provider: Twilio) -> None:
    with HttpReceiver() as ours:
        url = ours.url("/callbacks/twilio/status?delivery=d1")
        sid = outcome(provider, sms(status_callback=url)).provider_id

        assert server.call_back(sid, "delivered") == 200

        got = ours.ledger[0]
        form = dict(pair.split("=") for pair in got.body.decode().replace("%2B", "+").split("&"))
        update = provider.parse_status(url, form, got.headers["x-twilio-signature"])
        assert update is not None
        assert (update.status, update.provider_id) == (DeliveryStatus.DELIVERED, sid)


def test_closing_twice_is_harmless_and_it_works_after(server: TwilioServer, provider: Twilio) -> None:
    outcome(provider, sms())
    provider.close()
    provider.close()

    assert isinstance(outcome(provider, sms()), Accepted)
