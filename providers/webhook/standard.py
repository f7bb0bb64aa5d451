"""Webhooks by the Standard Webhooks scheme: the stored bytes are signed, posted, and judged by the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from providers.contract import (
    Accepted,
    Channel,
    DeliveryStatus,
    OutboundMessage,
    PermanentError,
    ProviderError,
    Result,
    RetryableError,
)
from providers.http import HttpClient, HttpFault, Request, Response
from providers.retry_after import parse_retry_after
from providers.webhook.signature import sign

MASK = "***"
_RESERVED = frozenset(
    {"host", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive", "user-agent"}
    | {"proxy-connection", "proxy-authorization", "traceparent"}
)
_HEADER_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
# A fault of the receiver's that no later try can heal. Everything else is tried again.
_HOPELESS = frozenset({"invalid_url", "invalid_header"})


def check_header(name: str, value: str) -> None:
    """Refuse an extra header that is ours to set or that could split the request. Raises ValueError.

    For use when a configuration is saved; the provider applies it again to every message.
    """
    lower = name.lower()
    if not lower or not _HEADER_NAME.issuperset(lower):
        raise ValueError(f"{name!r} is not a header name")
    if lower in _RESERVED or lower.startswith(("webhook-", "content-")):
        raise ValueError(f"the header {name} is reserved")
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
        raise ValueError(f"the value of the header {name} holds a control character")


@dataclass(frozen=True, slots=True)
class _Try:
    """One message on its way."""

    message: OutboundMessage
    began_at: float
    began: float
    signed: Mapping[str, str]


class StandardWebhook:
    """Posts `message.payload` to `message.to`, signed with every one of `message.secrets`.

    `client`: the safe client, shared with others. `now`: unix seconds, for the timestamp of an attempt.
    `message.headers` are added; 2xx is delivered, 410 asks to disable the endpoint, all else is tried again.
    """

    name = "webhook"
    channel = Channel.WEBHOOK

    def __init__(
        self, client: HttpClient, *, now: Callable[[], float] = time.time, user_agent: str = "Tidings"
    ) -> None:
        self._client = client
        self._now = now
        self._user_agent = user_agent

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        """See Provider. All are under way together; a receiver that hangs costs a slot and holds back nobody."""
        refused: list[Result] = []
        exchanges = self._client.perform(self._requests(messages, refused), deadline)
        for request, outcome in exchanges:
            yield from _drained(refused)
            yield self._result(request.tag, outcome)
        yield from _drained(refused)

    def close(self) -> None:
        """The client is its owner's to close."""

    def _requests(self, messages: Iterable[OutboundMessage], refused: list[Result]) -> Iterator[Request]:
        """Sign each message at the moment its turn comes: the timestamp is the attempt's."""
        for message in messages:
            began_at, began = self._now(), time.monotonic()
            try:
                signed = self._headers(message, int(began_at))
            except Exception as error:
                refused.append(_refusal(message, began_at, error))
                continue
            headers = [*signed.items(), *message.headers.items()]
            yield Request(message.to, message.payload, headers, tag=_Try(message, began_at, began, signed))

    def _headers(self, message: OutboundMessage, timestamp: int) -> dict[str, str]:
        for name, value in message.headers.items():
            check_header(name, value)
        headers = {
            "content-type": "application/json",
            "webhook-id": message.delivery_id,
            "webhook-timestamp": str(timestamp),
        }
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        if message.secrets:
            headers["webhook-signature"] = " ".join(
                sign(secret, message.delivery_id, timestamp, message.payload) for secret in message.secrets
            )
        return headers

    def _result(self, tried: _Try, outcome: Response | HttpFault) -> Result:
        duration_ms = (time.monotonic() - tried.began) * 1000
        detail = _detail(tried, outcome, duration_ms, self._client.user_agent)
        started_at = datetime.fromtimestamp(tried.began_at, UTC)
        return Result(tried.message, self._judge(outcome, detail), started_at, duration_ms)

    def _judge(self, outcome: Response | HttpFault, detail: dict[str, Any]) -> Accepted | ProviderError:
        if isinstance(outcome, HttpFault):
            kind = PermanentError if outcome.code in _HOPELESS else RetryableError
            return kind(outcome.code, outcome.message, detail)
        if 200 <= outcome.status < 300:
            return Accepted(status=DeliveryStatus.DELIVERED, detail=detail)
        if outcome.status == 410:
            return PermanentError("gone", "the endpoint answered 410 Gone", detail, disable_endpoint=True)
        wait = parse_retry_after(outcome.headers.get("retry-after"), self._now())
        text = f"the endpoint answered {outcome.status}"
        return RetryableError(f"http_{outcome.status}", text, detail, retry_after=wait)


def _detail(tried: _Try, outcome: Response | HttpFault, duration_ms: float, user_agent: str) -> dict[str, Any]:
    """The facts of an attempt for its record. Values of headers that are not ours are masked: they may be secrets."""
    detail: dict[str, Any] = {
        "durationMs": round(duration_ms, 3),
        "requestHeaders": {"user-agent": user_agent, **tried.signed, **dict.fromkeys(tried.message.headers, MASK)},
    }
    if isinstance(outcome, HttpFault):
        return {**detail, **outcome.detail}
    detail["status"] = outcome.status
    detail["responseHeaders"] = outcome.headers
    detail["responseBody"] = outcome.text
    detail["truncated"] = outcome.truncated
    detail["peer"] = outcome.peer
    detail["times"] = outcome.times
    return detail


def _refusal(message: OutboundMessage, began_at: float, error: Exception) -> Result:
    """This request cannot be made. A ValueError says what is wrong with the message; all else is our bug."""
    outcome = PermanentError("invalid_message", str(error)) if isinstance(error, ValueError) else error
    return Result(message, outcome, datetime.fromtimestamp(began_at, UTC), 0.0)


def _drained(refused: list[Result]) -> Iterator[Result]:
    while refused:
        yield refused.pop()
