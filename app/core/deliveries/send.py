"""Claim what is due, render it, hand it to a provider, record what came of it."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import structlog
from sqlalchemy.orm import Session

from app.core.deliveries import claims, content, witness
from app.core.deliveries.claims import BATCH, SUSPECT, Claim
from app.core.deliveries.content import Batch, Prepared
from app.core.deliveries.gates import Room
from app.core.deliveries.outcome import Tried
from app.core.deliveries.recorder import Recorder
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.db import Purpose, narrow, system, tenant
from providers.contract import Channel, OutboundMessage, PermanentError, Provider, Result, RetryableError

log = structlog.get_logger()

BATCH_SECONDS = 20.0  # at this deadline what is not begun yet is given back
SUSPECTS_EVERY = 10  # one claim in so many begins with a suspect, so that a busy tenant does not starve them
_MARGIN_SECONDS = 5.0  # before the lease ends, to write results in
_parallel = ThreadPoolExecutor(max_workers=512, thread_name_prefix="channel")  # rooms bound it
_rounds = itertools.count(1)
_served: dict[Lane, tuple[str, str]] = {}  # where this process is in the round of tenants and channels


def lease_seconds(runtime: Runtime, channel: str) -> float:
    """How long a claim is ours: at least twice the deadline and the provider's timeout."""
    return 2 * (BATCH_SECONDS + runtime.channels.timeout(Channel(channel)))


def deliver(runtime: Runtime, lane: Lane) -> int:
    """Send one batch of what is due in a lane; ring first if more is left. Returns how many were claimed."""
    with Room(runtime, lane) as room:
        with runtime.db.transaction(system(Purpose.CLAIM)) as session:
            waiting = claims.slots(session, lane, runtime.clock.now())
            tenant_id, channel = _enter_slot(room, lane, waiting)
            batches = _claim(session, runtime, lane, tenant_id, channel) if channel else []
        claimed = [claim for batch in batches for claim in batch.claims]
        alone = len(claimed) == 1 and claimed[0].turn == SUSPECT
        if claimed and (len(waiting) > 1 or len(claimed) == BATCH or alone):
            runtime.bell.ring(Job.DELIVER, lane)
        send_batches(runtime, batches, room)
    return len(claimed)


def _claim(session: Session, runtime: Runtime, lane: Lane, tenant_id: str, channel: str) -> list[Batch]:
    narrow(session, tenant(tenant_id))
    lease, now = lease_seconds(runtime, channel), runtime.clock.now()
    suspects_first = next(_rounds) % SUSPECTS_EVERY == 0
    claimed = claims.claim_due(session, lane, tenant_id, channel, now, lease, suspects_first=suspects_first)
    return content.load(session, runtime, claimed)


def _enter_slot(room: Room, lane: Lane, waiting: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The next tenant and channel whose turn it is and for which there is room; ("", "") if there is none."""
    last = _served.get(lane, ("", ""))
    for slot in sorted(waiting, key=lambda slot: (slot <= last, slot)):
        if room.enter(slot[1]):
            _served[lane] = slot
            return slot
    return "", ""


def send_now(runtime: Runtime, tenant_id: str, delivery_ids: Sequence[str]) -> None:
    """Send these deliveries in the calling thread, as far as they are pending."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        lease = max(lease_seconds(runtime, channel) for channel in Channel)
        claimed = claims.claim_these(session, tenant_id, delivery_ids, runtime.clock.now(), lease)
        batches = content.load(session, runtime, claimed)
    send_batches(runtime, batches)


def send_batches(runtime: Runtime, batches: Sequence[Batch], room: Room | None = None) -> None:
    """Send claims of one tenant; the channels go side by side, so that a slow one holds back no other.

    Of `room` each channel is given back when its batch has ended.
    """
    if not batches:
        return
    first, *others = batches
    futures = [_parallel.submit(_send_and_leave, runtime, batch, room) for batch in others]
    try:
        _send_and_leave(runtime, first, room)
    finally:
        wait(futures)
    for future in futures:
        future.result()


def _send_and_leave(runtime: Runtime, batch: Batch, room: Room | None) -> None:
    try:
        _send_batch(runtime, batch)
    finally:
        if room:
            room.give_back(batch.claims[0].channel)


def _send_batch(runtime: Runtime, batch: Batch) -> None:
    witness.claimed(batch.claims)
    channel, tenant_id = batch.claims[0].channel, batch.claims[0].tenant_id
    # The bell keeps nobody waiting, and storing an item twice is harmless: its results are written together.
    threaded = len(batch.claims) > 1 and channel != Channel.IN_APP
    until = time.monotonic() + lease_seconds(runtime, channel) - _MARGIN_SECONDS
    recorder = Recorder(runtime, tenant_id, threaded=threaded, until=until)
    left = {claim.id: claim for claim in batch.claims}
    try:
        _send_recorded(runtime, batch, recorder, left)
    finally:
        recorder.close()


def _send_recorded(runtime: Runtime, batch: Batch, recorder: Recorder, left: dict[str, Claim]) -> None:
    """Record what comes of each claim; what is `left` at the end was not begun, or broke with the batch."""
    fault: Exception | None = None
    try:
        for tried in _try_all(runtime, content.prepare(runtime, batch)):
            left.pop(tried.claim.id, None)
            recorder.add(tried)
    except Exception as error:
        # Some may be on the wire, and one of them breaks us: each counts as tried, and is tried on its own next time.
        log.exception("batch_failed", channel=batch.claims[0].channel, claims=len(batch.claims))
        fault = RetryableError("internal_error", type(error).__name__)
    for claim in left.values():
        recorder.add(Tried(claim, None, fault, alone=fault is not None))


def _try_all(runtime: Runtime, prepared: Sequence[Prepared]) -> Iterator[Tried]:
    deadline = time.monotonic() + BATCH_SECONDS
    batches: dict[Provider, dict[str, Prepared]] = defaultdict(dict)
    for item in prepared:
        provider = runtime.channels.provider_for(Channel(item.claim.channel), item.claim.tries)
        if isinstance(item.message, Exception):
            yield Tried(item.claim, None, item.message)
        elif provider is None:
            yield Tried(item.claim, None, PermanentError("no_provider", "no provider is set up for this channel"))
        else:
            batches[provider][item.claim.id] = item
    for provider, batch in batches.items():
        messages = [item.message for item in batch.values() if isinstance(item.message, OutboundMessage)]
        begun = itertools.takewhile(lambda _message: not runtime.stopping.is_set(), messages)
        for result in provider.send_batch(begun, deadline):
            yield _tried(batch[result.message.delivery_id].claim, provider, result)


def _tried(claim: Claim, provider: Provider, result: Result) -> Tried:
    fault = result.outcome if isinstance(result.outcome, Exception) else None
    if getattr(fault, "loud", False):
        log.error("provider_refuses_us", provider=provider.name, code=getattr(fault, "code", ""), delivery=claim.id)
    elif fault is not None and not hasattr(fault, "code"):
        log.error("provider_crashed", provider=provider.name, delivery=claim.id, exc_info=fault)
    elif fault is not None:
        log.warning("attempt_failed", provider=provider.name, code=getattr(fault, "code", ""), delivery=claim.id)
    began_at = result.started_at.timestamp()
    return Tried(claim, provider.name, result.outcome, result.duration_ms, result.message.to, began_at)
