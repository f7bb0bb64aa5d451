"""A provider that does what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from app.core.channels import Channels
from app.core.runtime import Runtime
from providers.contract import Accepted, Channel, OutboundMessage, Result

Act = Callable[[OutboundMessage], Accepted | Exception]


def accept_all(_message: OutboundMessage) -> Accepted:
    """Says yes to everything."""
    return Accepted("id")


class Scripted:
    """Its `act` may be changed as a test goes on; `began` are the deliveries it was handed."""

    def __init__(self, channel: Channel, act: Act = accept_all, name: str = "scripted") -> None:
        self.channel = channel
        self.name = name
        self.act = act
        self.began: list[str] = []

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        for message in messages:
            self.began.append(message.delivery_id)
            yield Result(message, self.act(message), datetime.now(UTC), 1.0)

    def close(self) -> None:
        """Nothing is kept."""


def with_providers(runtime: Runtime, *providers: Scripted) -> Runtime:
    """The same house, in which these providers serve their channel, and no other channel is served."""
    channel = providers[0].channel
    return replace(runtime, channels=Channels({channel: providers}, {channel: 1.0}))
