"""SMS by Twilio, with its own library: sending, and what it reports later.

Sources: https://www.twilio.com/docs/messaging/api/message-resource and https://www.twilio.com/docs/api/errors.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from providers.contract import (
    Accepted,
    Channel,
    DeliveryStatus,
    OutboundMessage,
    PermanentError,
    ProviderError,
    Result,
    RetryableError,
    StatusUpdate,
)
from providers.retry_after import parse_retry_after
from providers.sms import segments
from providers.sms.numbers import invalid_number, is_e164
from providers.sms.twilio_http import SessionClient
from providers.webhook.signature import InvalidSignature

__all__ = ["PERMANENT", "STATUS", "InvalidSignature", "Twilio", "classify"]

API = "https://api.twilio.com"

# Twilio's words for a message, in ours. `queued`, `accepted`, `scheduled` and `sending` say that it is on its way.
STATUS = {
    "accepted": DeliveryStatus.SENT,
    "scheduled": DeliveryStatus.SENT,
    "queued": DeliveryStatus.SENT,
    "sending": DeliveryStatus.SENT,
    "sent": DeliveryStatus.SENT,
    "delivered": DeliveryStatus.DELIVERED,
    "partially_delivered": DeliveryStatus.DELIVERED,
    "read": DeliveryStatus.DELIVERED,
    "undelivered": DeliveryStatus.BOUNCED,
    "failed": DeliveryStatus.FAILED,
    "canceled": DeliveryStatus.FAILED,
}

# Twilio's codes that blame this number or this message. Every other refusal is tried again.
PERMANENT = {
    21211: "invalid_number",
    21217: "invalid_number",
    21266: "same_as_sender",
    21604: "no_recipient",
    21610: "unsubscribed",
    21612: "unroutable_number",
    21614: "not_a_mobile_number",
    21602: "empty_message",
    21605: "message_too_long",
    21617: "message_too_long",
    21619: "empty_message",
    21635: "not_a_mobile_number",
    30003: "unreachable_handset",
    30004: "message_blocked",
    30005: "unknown_handset",
    30006: "landline_or_unreachable",
    30007: "carrier_filtered",
}
# Our account or our set-up is at fault: retryable, and an operator must see it.
LOUD = {20003, 20005, 20404, 21212, 21401, 21407, 21408, 21421, 21601, 21603, 21606, 21608, 21659, 21660}


class Twilio:
    """Sends with the account's credentials from the number `sender`.

    `base_url` stands in for the API (for tests), `timeout_s` is for each request, `max_parallel` how many go at a time.
    `clock`: the time of day.
    """

    name = "twilio"
    channel = Channel.SMS

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        sender: str,
        *,
        base_url: str = API,
        timeout_s: float = 10.0,
        max_parallel: int = 8,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._max_parallel = max_parallel
        self._http = SessionClient(base_url, timeout_s)
        # environment={}: the library would look for a region, an edge and other credentials in ours.
        self._client = Client(account_sid, auth_token, http_client=self._http, environment={})
        self._messages = self._client.messages
        self._validator = RequestValidator(auth_token)
        self._token_set = bool(auth_token)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        """See Provider. Up to `max_parallel` requests at a time."""
        waiting, running = iter(messages), set[Future[Result]]()
        more = True
        while more or running:
            while more and len(running) < self._max_parallel:
                message = next(waiting, None) if time.monotonic() < deadline else None
                if message is None:
                    more = False
                else:
                    running.add(self._workers().submit(self._send, message))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)

    def parse_status(self, url: str, params: Mapping[str, str] | Any, signature: str) -> StatusUpdate | None:
        """What a status callback says. Raises InvalidSignature.

        `url`: as Twilio called it, built from our public address, query included. `params`: the form, of a kind that
        may hold several values for a name. None for a word that we do not know: acknowledge it and go on.
        """
        # Without a token of ours everybody knows the key.
        if not self._token_set or not self._validator.validate(url, params, signature):
            raise InvalidSignature("the signature does not fit")
        status = STATUS.get(params.get("MessageStatus") or params.get("SmsStatus") or "")
        if status is None:
            return None
        code = params.get("ErrorCode") or ""
        reason = PERMANENT.get(int(code), f"twilio_{code}") if code.isascii() and code.isdigit() else None
        return StatusUpdate(
            status=status,
            delivery_id=next(iter(parse_qs(urlsplit(url).query).get("delivery", ())), None),
            provider_id=params.get("MessageSid") or params.get("SmsSid"),
            reason=reason,
            raw={name: params[name] for name in params},
        )

    def close(self) -> None:
        """End the threads and close their connections; calling it twice is harmless."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        self._http.close()

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._max_parallel, thread_name_prefix="twilio")
            return self._pool

    def _send(self, message: OutboundMessage) -> Result:
        started_at, began = self._clock(), time.monotonic()
        outcome: Accepted | Exception
        try:
            outcome = self._create(message)
        except ProviderError as error:
            outcome = error
        except TwilioException as error:
            outcome = self._classify(error)
        except requests.RequestException as error:
            outcome = _transport_fault(error)
        except Exception as error:
            outcome = error  # our bug: the sender logs it and tries again
        return Result(message, outcome, started_at, (time.monotonic() - began) * 1000)

    def _create(self, message: OutboundMessage) -> Accepted:
        if not is_e164(message.to):
            raise invalid_number()
        if not message.text:
            raise PermanentError("empty_message", "an SMS needs a text")
        wanted: dict[str, Any] = {"to": message.to, "body": message.text, "from_": message.sender or self._sender}
        if message.status_callback:
            wanted["status_callback"] = message.status_callback
        try:
            created = self._messages.create(**wanted)
        except json.JSONDecodeError as error:
            raise _unreadable() from error
        if not created.sid:
            raise _unreadable()  # an answer cut short reads as one without fields
        size = segments.count(message.text)
        detail = {"providerStatus": created.status, "segments": size.count, "encoding": size.encoding}
        return Accepted(provider_id=created.sid, detail=detail)

    def _classify(self, error: TwilioException) -> ProviderError:
        if not isinstance(error, TwilioRestException | TwilioServiceException):
            return _unreadable()
        code = error.code if isinstance(error.code, int) else error.status
        text = error.msg if isinstance(error, TwilioRestException) else error.title
        wait_s = parse_retry_after(self._http.last_retry_after(), self._clock().timestamp())
        return classify(error.status, code, str(text)[:500], wait_s)


def classify(status: int, code: int, text: str, retry_after: float | None = None) -> ProviderError:
    """Whose fault a refusal is, by Twilio's own code first and the HTTP status after it."""
    detail = {"status": status, "twilioCode": code}
    if code in PERMANENT:
        return PermanentError(PERMANENT[code], text, detail)
    loud = code in LOUD or status in (401, 403)
    kind = f"twilio_{code}" if code != status else f"http_{status}"
    return RetryableError(kind, text, detail, retry_after=retry_after, loud=loud)


def _unreadable() -> RetryableError:
    return RetryableError("bad_response", "Twilio's answer could not be read")


def _transport_fault(error: requests.RequestException) -> RetryableError:
    for kind, code in _TRANSPORT:
        if isinstance(error, kind):
            return RetryableError(code, f"Twilio could not be reached: {code}", loud=code == "tls_error")
    return RetryableError("transport_error", "Twilio could not be reached")


_TRANSPORT: Sequence[tuple[type[Exception], str]] = (
    (requests.exceptions.SSLError, "tls_error"),
    (requests.exceptions.Timeout, "timeout"),
    (requests.exceptions.ConnectionError, "connection_failed"),
)
