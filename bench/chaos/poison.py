"""The providers as chaos hands them to a worker: the product's own, with every try noted down, and with poison.

A message to an address that begins with KILL ends the process that sends it; with HANG it is never done, whoever
tries it; with LATE its first try outlasts the lease, and fails only when the second has long succeeded.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from bench.chaos.control import Notes
from providers.contract import OutboundMessage, Provider, Result, RetryableError

KILL, HANG, LATE = "poison-kill", "poison-hang", "poison-late"
_PAUSE_SECONDS = 0.2


class NotedProvider:
    """A provider whose every try is noted: {id, attempt, pid, did}, `did` being begin, end or die."""

    def __init__(self, provider: Provider, notes: Notes, late_seconds: float) -> None:
        self.name = provider.name
        self.channel = provider.channel
        self._provider = provider
        self._notes = notes
        self._late_seconds = late_seconds

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        """See Provider."""
        late: list[OutboundMessage] = []
        for result in self._provider.send_batch(self._begun(messages, late), deadline):
            self._note("end", result.message)
            yield result
        for message in late:
            time.sleep(self._late_seconds)
            self._note("end", message)
            fault = RetryableError("late", "this failure comes long after the lease has ended")
            yield Result(message, fault, datetime.now(UTC), self._late_seconds * 1000)

    def close(self) -> None:
        """See Provider."""
        self._provider.close()

    def _begun(self, messages: Iterable[OutboundMessage], late: list[OutboundMessage]) -> Iterator[OutboundMessage]:
        for message in messages:
            self._note("begin", message)
            if message.to.startswith(KILL):
                self._note("die", message)
                os.kill(os.getpid(), signal.SIGKILL)
            while message.to.startswith(HANG):
                time.sleep(_PAUSE_SECONDS)
            if message.to.startswith(LATE) and message.attempt == 1:
                late.append(message)
            else:
                yield message

    def _note(self, did: str, message: OutboundMessage) -> None:
        self._notes.add(did=did, id=message.delivery_id, attempt=message.attempt, pid=os.getpid())
