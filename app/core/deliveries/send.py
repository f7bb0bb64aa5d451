"""Claim what is due, render it, hand it to a provider, record what came of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import structlog

from app.core.deliveries import claims, content, rates, turns, witness
from app.core.deliveries.claims import Claim
from app.core.deliveries.content import Batch, Prepared
from app.core.deliveries.gates import Room
from app.core.deliveries.outcome import Tried
from app.core.deliveries.recorder import Recorder
from app.core.deliveries.turns import Turn
from app.core.deliveries.watch import Watch
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.db import Transaction, narrow
from app.tenancy import Purpose, system, tenant
from providers.contract import Channel, Provider, ProviderError, Result, RetryableError

log = structlog.get_logger()

BATCH_SECONDS = 20.0  # at this deadline what is not begun yet is given back
_LEASES_TO_RECORD = 3  # so many times a lease results are held for a database that is away
TURN_SECONDS = 0.5  # of sending in one job, before other jobs have their turn
_parallel = ThreadPoolExecutor(max_workers=512, thread_name_prefix="channel")  # rooms bound it
_NONE: Mapping[str, str] = {}


def lease_seconds(runtime: Runtime, channel: str) -> float:
    """How long a claim is ours: at least twice the deadline and the provider's timeout."""
    return 2 * (BATCH_SECONDS + runtime.channels.timeout(Channel(channel)))


def longest_lease(runtime: Runtime) -> float:
    """How long a claim is ours when it may be of any channel: seconds."""
    return max(lease_seconds(runtime, channel) for channel in Channel)


def deliver_in_turn(runtime: Runtime, lane: Lane) -> int:
    """Send batch after batch of what is due in a lane, for TURN_SECONDS at most. Returns how many were claimed."""
    end, total = time.monotonic() + TURN_SECONDS, 0
    while True:
        claimed, more = _deliver(runtime, lane)
        total += claimed
        if not more or time.monotonic() >= end or runtime.stopping.is_set():
            return total


def time_limit_seconds(runtime: Runtime) -> float:
    """How long a job may last: above every lease."""
    return 2 * max(lease_seconds(runtime, channel) for channel in Channel)


def deliver(runtime: Runtime, lane: Lane) -> int:
    """Send one batch of what is due in a lane; ring first if more is left. Returns how many were claimed."""
    return _deliver(runtime, lane)[0]


def _deliver(runtime: Runtime, lane: Lane) -> tuple[int, bool]:
    """(how many were claimed, whether more is due). Others hear of that too, and help."""
    with Room(runtime, lane) as room:
        with runtime.db.work(system(Purpose.CLAIM)) as session:
            turn = turns.take(session, runtime, lane, room)
            batches = _claim(session, runtime, turn) if turn and turn.ids else []
        if turn is None:
            return 0, False
        if turn.more:
            runtime.bell.ring_soon(Job.DELIVER, lane)
        send_batches(runtime, batches, room, turn.probes)
    return len(turn.ids), turn.more


def _claim(session: Transaction, runtime: Runtime, turn: Turn) -> list[Batch]:
    narrow(session, tenant(turn.tenant_id))
    lease, now = lease_seconds(runtime, turn.channel), runtime.clock.now()
    return content.load(session, runtime, claims.claim_these(session, turn.tenant_id, turn.ids, now, lease))


def send_now(runtime: Runtime, tenant_id: str, delivery_ids: Sequence[str]) -> None:
    """Send these deliveries in the calling thread, as far as they are pending."""
    with runtime.db.work(tenant(tenant_id)) as session:
        lease = longest_lease(runtime)
        claimed = claims.claim_these(session, tenant_id, delivery_ids, runtime.clock.now(), lease)
        batches = content.load(session, runtime, claimed)
    _charge(runtime, batches)
    send_batches(runtime, batches)


def _charge(runtime: Runtime, batches: Sequence[Batch]) -> None:
    """Somebody waits for these, so they do not wait for their providers' rates; but others are given so many less."""
    counts = {Channel(batch.claims[0].channel): len(batch.claims) for batch in batches}
    limited = [channel for channel in counts if rates.interval(runtime, channel) is not None]
    if not limited:
        return
    with runtime.db.work(system(Purpose.CLAIM)) as session:
        for channel in limited:
            for provider in runtime.channels.providers(channel):
                if permit := rates.permit(session, runtime, provider):
                    rates.charge(session, runtime, permit, counts[channel])


def send_batches(
    runtime: Runtime, batches: Sequence[Batch], room: Room | None = None, probes: Mapping[str, str] = _NONE
) -> None:
    """Send claims of one tenant; the channels go side by side, so that a slow one holds back no other.

    Of `room` each channel is given back when its batch has ended. None: somebody waits for the answer.
    `probes`: {delivery: the breaker that it asks}.
    """
    if not batches:
        return
    first, *others = batches
    futures = [_parallel.submit(_send_and_leave, runtime, batch, room, probes) for batch in others]
    try:
        _send_and_leave(runtime, first, room, probes)
    finally:
        wait(futures)
    for future in futures:
        future.result()


def _send_and_leave(runtime: Runtime, batch: Batch, room: Room | None, probes: Mapping[str, str]) -> None:
    watch = Watch(runtime, batch.claims[0], probes, room)
    try:
        with witness.sending(batch.claims):
            _send_batch(runtime, batch, watch)
    finally:
        watch.close()
        if room:
            room.give_back(batch.claims[0].channel)


def _send_batch(runtime: Runtime, batch: Batch, watch: Watch) -> None:
    channel, tenant_id = batch.claims[0].channel, batch.claims[0].tenant_id
    # The bell keeps nobody waiting, and storing an item twice is harmless: its results are written together.
    threaded = len(batch.claims) > 1 and channel != Channel.IN_APP
    until = time.monotonic() + _LEASES_TO_RECORD * lease_seconds(runtime, channel)
    recorder = Recorder(runtime, tenant_id, threaded=threaded, until=until)
    left = {claim.id: claim for claim in batch.claims}
    try:
        _send_recorded(runtime, batch, watch, recorder, left)
    finally:
        recorder.close()


def _send_recorded(runtime: Runtime, batch: Batch, watch: Watch, recorder: Recorder, left: dict[str, Claim]) -> None:
    """Record what comes of each claim; what is `left` at the end was not begun, or broke with the batch."""
    fault: Exception | None = None
    try:
        for tried in _try_all(watch, content.prepare(runtime, batch)):
            left.pop(tried.claim.id, None)
            recorder.add(tried)
    except Exception as error:
        # Some may be on the wire, and one of them breaks us: each counts as tried, and is tried on its own next time.
        log.exception("batch_failed", channel=batch.claims[0].channel, claims=len(batch.claims))
        fault = RetryableError("internal_error", type(error).__name__)
    for claim in left.values():
        recorder.add(Tried(claim, None, fault, alone=fault is not None))


def _try_all(watch: Watch, prepared: Sequence[Prepared]) -> Iterator[Tried]:
    deadline = time.monotonic() + BATCH_SECONDS
    batches: dict[Provider, dict[str, Prepared]] = defaultdict(dict)
    for item in prepared:
        provider = watch.provider_for(item.claim)
        if isinstance(item.message, Exception):
            yield Tried(item.claim, None, item.message)
        elif provider is None:
            yield Tried(item.claim, None, RetryableError("no_provider", "no provider is set up for this channel here"))
        else:
            batches[provider][item.claim.id] = item
    for provider, batch in batches.items():
        for result in provider.send_batch(watch.admitted(provider, batch.values()), deadline):
            claim = batch[result.message.delivery_id].claim
            watch.heard(claim, provider, result)
            yield _tried(claim, provider, result)
            yield from watch.put_aside()
        yield from watch.put_aside()


def _tried(claim: Claim, provider: Provider, result: Result) -> Tried:
    fault = result.outcome if isinstance(result.outcome, Exception) else None
    if fault is not None and not isinstance(fault, ProviderError):
        log.error("provider_crashed", provider=provider.name, delivery=claim.id, exc_info=fault)
    began_at = result.started_at.timestamp()
    return Tried(claim, provider.name, result.outcome, result.duration_ms, result.message.to, began_at)
