"""In-app notifications: a batch is handed to whoever keeps them, and is delivered by that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from providers.contract import Accepted, Channel, DeliveryStatus, OutboundMessage, ProviderError, Result, RetryableError

BATCH = 100


class InApp:
    """Gives up to 100 messages at a time to `store`, which keeps all of them or raises.

    When `store` raises anything but RetryableError for a batch, each of its messages is tried alone, so that one bad
    message harms only itself.
    """

    name = "in_app"
    channel = Channel.IN_APP

    def __init__(self, store: Callable[[Sequence[OutboundMessage]], None]) -> None:
        self._store = store

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        """See Provider. Stored is DELIVERED."""
        waiting = iter(messages)
        while time.monotonic() < deadline and (batch := list(islice(waiting, BATCH))):
            yield from self._keep(batch)

    def close(self) -> None:
        """Nothing is kept."""

    def _keep(self, batch: Sequence[OutboundMessage]) -> Iterator[Result]:
        started_at, began = datetime.now(UTC), time.monotonic()
        outcome: Accepted | Exception = Accepted(status=DeliveryStatus.DELIVERED)
        try:
            self._store(batch)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, RetryableError):
                for message in batch:
                    yield from self._keep([message])
                return
            outcome = error if isinstance(error, ProviderError) else _unkept(error)
        duration_ms = (time.monotonic() - began) * 1000
        for message in batch:
            yield Result(message, outcome, started_at, duration_ms)


def _unkept(error: Exception) -> RetryableError:
    fault = RetryableError("store_failed", type(error).__name__)
    fault.__cause__ = error
    return fault
