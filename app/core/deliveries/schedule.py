"""When a failed delivery is tried again: data per channel, with an end."""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.config import Settings
from providers.contract import Channel

SECOND, MINUTE, HOUR = 1.0, 60.0, 3600.0

# The delay before each further try, in seconds; the first try is at once. At the end of its list a delivery fails.
SCHEDULES: dict[Channel, tuple[float, ...]] = {
    Channel.EMAIL: (30 * SECOND, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR),
    Channel.SMS: (15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR),
    Channel.WEBHOOK: (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR),
    Channel.IN_APP: (SECOND, 5 * SECOND, 30 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR),
}
JITTER = 0.1  # upwards only: a receiver never sees us earlier than the schedule says


def schedule_for(channel: Channel, settings: Settings) -> Sequence[float]:
    """The delays of a channel in seconds. Settings may replace or cut those of webhooks."""
    usual = SCHEDULES[channel]
    if channel is not Channel.WEBHOOK:
        return usual
    if settings.webhook_retry_delay is None:
        return usual if settings.webhook_max_retries is None else usual[: settings.webhook_max_retries]
    retries = 5 if settings.webhook_max_retries is None else settings.webhook_max_retries
    return tuple(settings.webhook_retry_delay / 1000 * 2**step for step in range(retries))


def delay_after(
    schedule: Sequence[float], tries: int, retry_after: float | None, chance: random.Random
) -> float | None:
    """Seconds until the next try after `tries` tries, or None when there is none left.

    A provider's Retry-After is honoured between once and twice our own delay: some ask for hours.
    """
    if tries > len(schedule):
        return None
    own = schedule[tries - 1]
    asked = max(own, min(retry_after or 0.0, 2 * own))
    return asked * (1 + JITTER * chance.random())
