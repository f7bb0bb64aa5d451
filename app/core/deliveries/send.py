"""Claim what is due, render it, hand it to a provider, record what came of it."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.deliveries import claims, content, outcome
from app.core.deliveries.claims import BATCH, Claim
from app.core.deliveries.content import Batch, Prepared
from app.core.deliveries.outcome import Tried
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.db import Purpose, narrow, system, tenant
from providers.contract import Channel, OutboundMessage, PermanentError, Provider, Result

log = structlog.get_logger()

BATCH_SECONDS = 20.0  # at this deadline what is not sent yet is given back
FLUSH_ROWS, FLUSH_SECONDS = 20, 0.05  # so that a kill doubles no more than that
_RECORD_RETRIES = 6
_parallel = ThreadPoolExecutor(max_workers=32, thread_name_prefix="channel")
SUSPECTS_EVERY = 10  # one claim in so many begins with a suspect, so that a busy tenant does not starve them
_rounds = itertools.count(1)
_served: dict[Lane, tuple[str, str]] = {}  # where this process is in the round of tenants and channels


def lease_seconds(runtime: Runtime, channel: str) -> float:
    """How long a claim is ours: at least twice the deadline and the provider's timeout."""
    return 2 * (BATCH_SECONDS + runtime.channels.timeout(Channel(channel)))


def deliver(runtime: Runtime, lane: Lane) -> int:
    """Send one batch of what is due in a lane; ring first if more is left. Returns how many were claimed."""
    now = runtime.clock.now()
    with runtime.db.transaction(system(Purpose.CLAIM)) as session:
        waiting = claims.slots(session, lane, now)
        if not waiting:
            return 0
        tenant_id, channel = _next_slot(lane, waiting)
        narrow(session, tenant(tenant_id))
        lease = lease_seconds(runtime, channel)
        suspects_first = next(_rounds) % SUSPECTS_EVERY == 0
        claimed = claims.claim_due(session, lane, tenant_id, channel, now, lease, suspects_first=suspects_first)
        batches = content.load(session, runtime, claimed)
    alone = len(claimed) == 1 and claimed[0].losses > 0
    if len(waiting) > 1 or len(claimed) == BATCH or alone:
        runtime.bell.ring(Job.DELIVER, lane)
    send_batches(runtime, batches)
    return len(claimed)


def _next_slot(lane: Lane, waiting: Sequence[tuple[str, str]]) -> tuple[str, str]:
    last = _served.get(lane, ("", ""))
    ordered = sorted(waiting)
    chosen = next((slot for slot in ordered if slot > last), ordered[0])
    _served[lane] = chosen
    return chosen


def send_now(runtime: Runtime, tenant_id: str, delivery_ids: Sequence[str]) -> None:
    """Send these deliveries in the calling thread, as far as they are pending."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        lease = max(lease_seconds(runtime, channel) for channel in Channel)
        claimed = claims.claim_these(session, tenant_id, delivery_ids, runtime.clock.now(), lease)
        batches = content.load(session, runtime, claimed)
    send_batches(runtime, batches)


def send_batches(runtime: Runtime, batches: Sequence[Batch]) -> None:
    """Send claims of one tenant; the channels go side by side, so that a slow one holds back no other."""
    if not batches:
        return
    first, *others = batches
    futures = [_parallel.submit(_send_batch, runtime, batch) for batch in others]
    try:
        _send_batch(runtime, first)
    finally:
        wait(futures)
    for future in futures:
        future.result()


def _send_batch(runtime: Runtime, batch: Batch) -> None:
    # The bell keeps nobody waiting, and storing an item twice is harmless: its results are written together.
    threaded = len(batch.claims) > 1 and batch.claims[0].channel != Channel.IN_APP
    recorder = Recorder(runtime, batch.claims[0].tenant_id, threaded=threaded)
    left = {claim.id: claim for claim in batch.claims}
    try:
        for tried in _try_all(runtime, content.prepare(runtime, batch)):
            left.pop(tried.claim.id, None)
            recorder.add(tried)
    finally:
        for claim in left.values():
            recorder.add(Tried(claim, None, None))
        recorder.close()


def _try_all(runtime: Runtime, prepared: Iterable[Prepared]) -> Iterable[Tried]:
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
        for result in provider.send_batch(messages, deadline):
            yield _tried(batch[result.message.delivery_id].claim, provider, result)


def _tried(claim: Claim, provider: Provider, result: Result) -> Tried:
    fault = result.outcome if isinstance(result.outcome, Exception) else None
    if getattr(fault, "loud", False):
        log.error("provider_refuses_us", provider=provider.name, code=getattr(fault, "code", ""), delivery=claim.id)
    elif fault is not None and not hasattr(fault, "code"):
        log.error("provider_crashed", provider=provider.name, delivery=claim.id, exc_info=fault)
    elif fault is not None:
        log.warning("attempt_failed", provider=provider.name, code=getattr(fault, "code", ""), delivery=claim.id)
    return Tried(claim, provider.name, result.outcome, result.duration_ms, result.message.to)


class Recorder:
    """Writes results as they come: every 50 ms or 20 rows, also while a provider keeps us waiting.

    Not `threaded`, it writes them together when it is closed.
    """

    def __init__(self, runtime: Runtime, tenant_id: str, *, threaded: bool) -> None:
        self._runtime = runtime
        self._tenant_id = tenant_id
        self._queue: queue.SimpleQueue[Tried | None] = queue.SimpleQueue()
        self._kept: list[Tried] = []
        self._thread = threading.Thread(target=self._run, name="recorder") if threaded else None
        self._failure: Exception | None = None
        if self._thread:
            self._thread.start()

    def add(self, tried: Tried) -> None:
        """Have a result written soon."""
        if self._thread:
            self._queue.put(tried)
        else:
            self._kept.append(tried)

    def close(self) -> None:
        """Write what is left. Raises what kept results from being written."""
        if self._thread:
            self._queue.put(None)
            self._thread.join()
        elif self._kept:
            self._write(self._kept)
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._collect()
            try:
                if batch:
                    self._write(batch)
            except Exception as error:  # told to the caller in close()
                self._failure = error

    def _collect(self) -> tuple[list[Tried], bool]:
        """Wait for a result, then for as many as come within the limits. False: there are no more."""
        item = self._queue.get()
        batch: list[Tried] = []
        until = time.monotonic() + FLUSH_SECONDS
        while item is not None:
            batch.append(item)
            patience = until - time.monotonic()
            if len(batch) >= FLUSH_ROWS or patience <= 0:
                return batch, True
            try:
                item = self._queue.get(timeout=patience)
            except queue.Empty:
                return batch, True
        return batch, False

    def _ring_when_due(self, soonest: float | None, lane: Lane) -> None:
        """A retry that is due before the next sweep would wait for it; the row is the truth, this is only a bell."""
        if soonest is None or soonest > self._runtime.settings.sweep_seconds:
            return
        timer = threading.Timer(soonest, self._runtime.bell.ring, (Job.DELIVER, lane))
        timer.daemon = True
        timer.start()

    def _write(self, batch: Sequence[Tried]) -> None:
        """A result that cannot be written would be sent again when the lease ends: try for a while."""
        for attempt in range(_RECORD_RETRIES):
            try:
                with self._runtime.db.transaction(tenant(self._tenant_id)) as session:
                    soonest = outcome.record(session, self._runtime, self._tenant_id, batch, random.Random())
                self._ring_when_due(soonest, Lane(batch[0].claim.lane))
                return
            except SQLAlchemyError as error:
                if attempt == _RECORD_RETRIES - 1:
                    raise
                log.warning("record_retried", error=type(error).__name__, rows=len(batch))
                time.sleep(0.1 * 2**attempt)
