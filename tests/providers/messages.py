"""Messages for the tests of the providers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from providers.contract import Channel, OutboundMessage, Provider, Result

CREATED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def message(channel: Channel, to: str, **fields: Any) -> OutboundMessage:
    """A message of this channel; everything that does not matter is filled in."""
    given = {"delivery_id": "0195f0c0-0000-7000-8000-000000000001", "attempt": 1, "created_at": CREATED_AT}
    return OutboundMessage(channel=channel, to=to, **{**given, **fields})


def send(provider: Provider, *messages: OutboundMessage, seconds: float = 30.0) -> list[Result]:
    """All results of one batch, in the order of the messages."""
    results = list(provider.send_batch(messages, time.monotonic() + seconds))
    return sorted(results, key=lambda result: messages.index(result.message))


def outcome(provider: Provider, one: OutboundMessage) -> Any:
    """What became of a single message."""
    return send(provider, one)[0].outcome
