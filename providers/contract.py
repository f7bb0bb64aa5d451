"""What every provider promises and may rely on. Imports nothing of ours.

A provider is a stranger to the application: values in, values out. It is handed
everything it needs as arguments (also the base URL of the service it talks to,
so that tests can point it at a local server), it keeps its connections, and it
classifies what went wrong into one of two errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class Channel(StrEnum):
    """The ways a message can leave the house."""

    EMAIL = "email"
    SMS = "sms"
    WEBHOOK = "webhook"
    IN_APP = "in_app"


class DeliveryStatus(StrEnum):
    """How a delivery is going; exactly one at a time."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"


class ProviderError(Exception):
    """A provider's expected fault. Use one of the two subclasses.

    `detail` holds facts for the attempt's record (status code, peer, timings, the
    provider's own words). It must not hold a credential.
    """

    def __init__(self, code: str, message: str = "", detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.detail: dict[str, Any] = dict(detail or {})


class RetryableError(ProviderError):
    """Worth another try: timeouts, 408, 425, 429, 5xx, broken credentials.

    `retry_after` is what the provider asked for, in seconds. `loud` marks faults that
    an operator must see (401, 403: our credentials broke).
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        detail: Mapping[str, Any] | None = None,
        *,
        retry_after: float | None = None,
        loud: bool = False,
    ) -> None:
        super().__init__(code, message, detail)
        self.retry_after = retry_after
        self.loud = loud


class PermanentError(ProviderError):
    """The provider blames this address or this message; another try would not help.

    `disable_endpoint` is set when a webhook receiver answered 410 Gone.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        detail: Mapping[str, Any] | None = None,
        *,
        disable_endpoint: bool = False,
    ) -> None:
        super().__init__(code, message, detail)
        self.disable_endpoint = disable_endpoint


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file of an email. `content` is the decoded bytes."""

    filename: str
    content: bytes
    content_type: str = "application/octet-stream"
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One delivery, ready for the wire.

    `delivery_id` is the idempotency key: the same on every attempt. `created_at` is when
    the content was fixed, so that every attempt sends the same bytes. The rest is what the
    channel needs: a subject, text and HTML for email; text for SMS; bytes for webhook.
    `traceparent` (W3C Trace Context) names the trace and this try in it, for receivers that take one.
    `metadata` never leaves the house: in-app notifications carry their tenant, event and link in it.
    """

    delivery_id: str
    channel: Channel
    to: str
    attempt: int
    created_at: datetime
    subject: str = ""
    text: str = ""
    html: str = ""
    payload: bytes = b""
    sender: str | None = None
    reply_to: str | None = None
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    secrets: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    status_callback: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it.

    `status` is SENT, or DELIVERED where acceptance is delivery (webhook 2xx, in-app).
    `refused` names the addresses that were turned down while others were taken.
    """

    provider_id: str | None = None
    status: DeliveryStatus = DeliveryStatus.SENT
    detail: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """What a provider said later of a message.

    `delivery_id` is set when the callback URL carried it, `provider_id` is the provider's
    own name for the message. `raw` is the provider's payload as it came.
    """

    status: DeliveryStatus
    occurred_at: datetime | None = None
    delivery_id: str | None = None
    provider_id: str | None = None
    reason: str | None = None
    deferred: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """How one message of a batch went: `outcome` is the acceptance or the fault."""

    message: OutboundMessage
    outcome: Accepted | Exception
    started_at: datetime
    duration_ms: float


@runtime_checkable
class Provider(Protocol):
    """Sends messages of one channel.

    `send_batch` yields one `Result` for each message, in any order, as each is known; it
    never raises for a single message's fault, and it stops starting new messages once
    `deadline` (a `time.monotonic()` value) has passed: messages without a result were not
    begun and may be given back.
    """

    name: str
    channel: Channel

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]: ...

    def close(self) -> None:
        """Give back kept connections. Calling it twice is harmless."""
