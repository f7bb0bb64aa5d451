"""What is told of each step: counts for the metrics, and one line of the log for a batch.

An event is followed by its id through the lines `event_accepted`, `events_planned`, `deliveries_claimed` and
`deliveries_tried`; a delivery by its own through the last three. They hold ids and numbers only, never an address or a
word of a message. Each step is told once for a batch, so that the telling costs a delivery next to nothing.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from app.core.admission import Pressed
from app.core.deliveries import spans
from app.core.deliveries.claims import Claim
from app.core.deliveries.event_claims import ClaimedEvent
from app.core.outbox import Job, Lane, tell_after_commit
from app.db import Transaction
from app.ids import seconds_of
from app.metrics import (
    ADMISSION_REFUSED,
    ATTEMPT_SECONDS,
    DELIVERIES,
    DELIVERIES_PLANNED,
    DELIVERIES_SKIPPED,
    EVENTS_ACCEPTED,
    EVENTS_PLANNED,
    LEASES_EXPIRED,
    PROVIDER_ERRORS,
    PROVIDER_REFUSALS,
    WAKEUPS_LOST,
    WIRE_SECONDS,
)
from providers.contract import Channel, DeliveryStatus

if TYPE_CHECKING:
    from app.core.deliveries.outcome import Tried

Row = Mapping[str, Any]

RESULTS = ("sent", "retried", "failed", "returned", "skipped")
MOST_IDS = 100  # in one line of the log
_NUMBERED = re.compile(r"([a-z]+)_(\d+)")
# The rest of a provider's numbers are told by their first digit: receivers answer what they like.
_KNOWN = {
    *("http_400", "http_401", "http_403", "http_404", "http_408", "http_410", "http_429"),
    *("http_500", "http_502", "http_503", "http_504"),
    *("smtp_421", "smtp_450", "smtp_451", "smtp_452", "smtp_535", "smtp_550", "smtp_552", "smtp_554"),
    *("twilio_20003", "twilio_20429", "twilio_21211", "twilio_21610"),
}

log = structlog.get_logger()


def expect() -> None:
    """Have the counters that alerts look at begin with nought: from nothing to one, Prometheus sees no rise."""
    ADMISSION_REFUSED.labels("any", Pressed.DATABASE.value)
    for lane in Lane:
        for why in Pressed:
            ADMISSION_REFUSED.labels(lane.value, why.value)
        for job in Job:
            WAKEUPS_LOST.labels(job.value, lane.value)
    for kind in ("event", "delivery"):
        LEASES_EXPIRED.labels(kind)
    for status in ("planned", "put_back", "failed"):
        EVENTS_PLANNED.labels(status)
    for channel in Channel:
        PROVIDER_REFUSALS.labels(channel.value)
        for result in RESULTS:
            DELIVERIES.labels(channel.value, result)


def accepted(session: Transaction, events: Sequence[Row]) -> None:
    """When this transaction commits: these events are written down, and their planning is to come."""

    def tell() -> None:
        for lane, count in Counter(row["lane"] for row in events).items():
            EVENTS_ACCEPTED.labels(lane).inc(count)
        log.info("event_accepted", events=[row["id"] for row in events[:MOST_IDS]], count=len(events))

    tell_after_commit(session, tell)


def sends_accepted(session: Transaction, deliveries: Sequence[Row]) -> None:
    """When this transaction commits: these direct sends are written down."""

    def tell() -> None:
        _count_made(deliveries)
        log.info("sends_accepted", deliveries=[row["id"] for row in deliveries[:MOST_IDS]], count=len(deliveries))

    tell_after_commit(session, tell)


def planned(session: Transaction, events: Sequence[ClaimedEvent], began: datetime, deliveries: Sequence[Row]) -> None:
    """When this transaction commits: a page of each of these events is planned, and made these deliveries."""

    def tell() -> None:
        finished = sum(event.finished for event in events)
        EVENTS_PLANNED.labels("planned").inc(finished)
        _count_made(deliveries)
        log.info(
            "events_planned",
            events=[event.id for event in events[:MOST_IDS]],
            finished=finished,
            deliveries=[row["id"] for row in deliveries[:MOST_IDS]],
            count=len(deliveries),
        )
        spans.planned(events, began.timestamp(), len(deliveries))

    tell_after_commit(session, tell)


def _count_made(rows: Sequence[Row]) -> None:
    made: Counter[tuple[str, str]] = Counter()
    skipped: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["status"] == DeliveryStatus.SKIPPED:
            skipped[row["channel"], row["reason"]] += 1
        else:
            made[row["channel"], row["lane"]] += 1
    for (channel, lane), count in made.items():
        DELIVERIES_PLANNED.labels(channel, lane).inc(count)
    for (channel, reason), count in skipped.items():
        DELIVERIES_SKIPPED.labels(channel, reason).inc(count)


@contextmanager
def sending(claims: Sequence[Claim]) -> Iterator[None]:
    """A batch of one channel is sent within the block."""
    first, began = claims[0], time.time()
    log.info("deliveries_claimed", channel=first.channel, lane=first.lane, **_ids(claims))
    try:
        yield
    finally:
        spans.delivered(claims, began)


def recorded(session: Transaction, tried: Sequence[Tried], verdicts: Sequence[Row]) -> None:
    """When this transaction commits: what came of some claims is written, one verdict for each."""
    tell_after_commit(session, partial(_tell_results, tried, verdicts))


def ended(session: Transaction, channel: Channel, verdicts: Sequence[Row]) -> None:
    """When this transaction commits: deliveries came to their end without a try. What goes on waiting is not told."""
    over = [verdict for verdict in verdicts if verdict["status"] != DeliveryStatus.PENDING]
    if not over:
        return

    def tell() -> None:
        for verdict in over:
            DELIVERIES.labels(channel.value, str(verdict["status"])).inc()
            if verdict["status"] == DeliveryStatus.SKIPPED:
                DELIVERIES_SKIPPED.labels(channel.value, verdict["reason"]).inc()
        ids = [verdict["id"] for verdict in over]
        log.info("deliveries_ended", channel=channel.value, deliveries=ids[:MOST_IDS], count=len(ids))

    tell_after_commit(session, tell)


def _tell_results(tried: Sequence[Tried], verdicts: Sequence[Row]) -> None:
    results: Counter[tuple[str, str]] = Counter()
    groups: dict[tuple[str, str | None, str, str | None], list[Claim]] = defaultdict(list)
    refusing: set[tuple[str | None, str]] = set()
    for item, verdict in zip(tried, verdicts, strict=True):
        claim, result = item.claim, _result(verdict)
        results[claim.channel, result] += 1
        groups[claim.channel, item.provider, result, verdict.get("code")].append(claim)
        if result == "skipped":
            DELIVERIES_SKIPPED.labels(claim.channel, verdict["reason"]).inc()
        if isinstance(item.result, Exception):
            _count_error(item, verdict)
        if getattr(item.result, "loud", False):
            PROVIDER_REFUSALS.labels(claim.channel).inc()
            refusing.add((item.provider, verdict["code"]))
    for (channel, result), count in results.items():
        DELIVERIES.labels(channel, result).inc(count)
    _time(tried)
    spans.tried(tried, verdicts)
    for (channel, provider, result, code), some in groups.items():
        tell = log.warning if result in ("retried", "failed") else log.info
        tell("deliveries_tried", channel=channel, provider=provider, result=result, code=code, **_ids(some))
    for who, why in refusing:
        log.error("provider_refuses_us", provider=who, code=why)


def kind_of(code: str) -> str:
    """A reason code for a label: one of some hundred, whatever providers and receivers answer."""
    numbered = _NUMBERED.fullmatch(code)
    if not numbered or code in _KNOWN:
        return code
    return f"{numbered[1]}_{numbered[2][0]}{'x' * (min(len(numbered[2]), 5) - 1)}"


def _result(verdict: Row) -> str:
    """In the words of the metrics: sent, failed, retried (to be tried again), returned (unsent) or skipped."""
    if verdict["outcome"] == "accepted":
        return "sent"
    if verdict["status"] == DeliveryStatus.PENDING:
        return "returned" if verdict["outcome"] == "returned" else "retried"
    return str(verdict["status"])


def _count_error(item: Tried, verdict: Row) -> None:
    code = kind_of(verdict.get("code") or "internal_error")
    PROVIDER_ERRORS.labels(item.claim.channel, item.provider or "none", code).inc()


def _time(tried: Sequence[Tried]) -> None:
    """How long the tries took, and how long the first ones came after acceptance. Labels are looked up once each."""
    attempts: dict[tuple[str, str], list[float]] = defaultdict(list)
    waits: dict[tuple[str, str], list[float]] = defaultdict(list)
    for item in tried:
        if item.provider is None or item.result is None:
            continue
        attempts[item.claim.channel, item.provider].append(item.duration_ms / 1000)
        if item.claim.attempt == 1 and item.began_at:
            waits[item.claim.channel, item.claim.lane].append(max(0.0, item.began_at - seconds_of(item.claim.id)))
    for metric, found in ((ATTEMPT_SECONDS, attempts), (WIRE_SECONDS, waits)):
        for labels, times in found.items():
            observe = metric.labels(*labels).observe
            for seconds in times:
                observe(seconds)


def _ids(claims: Sequence[Claim]) -> dict[str, Any]:
    events = dict.fromkeys(claim.event_id for claim in claims if claim.event_id)
    return {"events": list(events), "deliveries": [claim.id for claim in claims], "count": len(claims)}
