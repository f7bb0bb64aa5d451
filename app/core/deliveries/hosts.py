"""Webhooks whose host does not answer: put off without a try, but for the one that asks whether it does again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.core import webhooks
from app.core.deliveries import breakers, claims, witness
from app.core.deliveries.breakers import Open
from app.core.deliveries.claims import BATCH, SUSPECT, Due
from app.core.deliveries.schedule import JITTER, schedule_for
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.db import Transaction
from providers.contract import Channel, DeliveryStatus

CIRCUIT_OPEN = "circuit_open"
_PAGE, _MOST_PAGES = 500, 20  # that are put off in one go
_SOON_SECONDS = 1.0  # for what another process is asking just now
_chance = random.Random()


@dataclass(frozen=True, slots=True)
class Sorted:
    """What may be claimed; which of it asks, as {id: breaker}; whether more may be due; whether it is a suspect."""

    ids: list[str]
    probes: dict[str, str]
    more: bool
    alone: bool


def sort_out(
    session: Transaction, runtime: Runtime, lane: Lane, tenant_id: str, broken: Mapping[str, Open], *, suspects: bool
) -> Sorted:
    """What of a tenant's webhooks may be claimed while some of its hosts are `broken`; without `suspects` none of them.

    What stands before it in the row is put off, so that no later claim walks over it.
    """
    now, slot = runtime.clock.now(), (tenant_id, Channel.WEBHOOK.value)
    probes: dict[str, str] = {}
    for page in range(_MOST_PAGES):
        size = _PAGE if page else BATCH
        found = claims.due(session, lane, slot, now, size, suspects=suspects)
        names = _names(session, tenant_id, found)
        ready = [one.id for one in found if names[one.id] not in broken][:BATCH]
        waiting = [one for one in found if names[one.id] in broken]
        for one in waiting:
            state = broken[names[one.id]]
            if state.name not in probes.values() and _asks(session, runtime, state, now):
                probes[one.id] = state.name
        if waiting := [one for one in waiting if one.id not in probes]:
            _put_off(session, runtime, tenant_id, waiting, {one.id: broken[names[one.id]] for one in waiting})
        if ready or probes or len(found) < size:
            ids = ready + list(probes)
            alone = bool(ids) and found[0].turn == SUSPECT
            return Sorted(ids, probes, len(found) == size, alone)
    return Sorted([], {}, more=True, alone=False)


def delay(runtime: Runtime, state: Open, now: datetime, *, first: bool) -> float:
    """Seconds until a delivery for a broken host is looked at again: the time of the next probe, and up to half the
    breaker's pause more, so that not all come at once; the first comes in time to be the probe."""
    pause = breakers.pause(runtime, state.openings)
    until_probe = min(max(_SOON_SECONDS, (state.probe_at - now).total_seconds()), pause)
    return until_probe + (0.0 if first else _chance.uniform(0, pause / 2))


def _asks(session: Transaction, runtime: Runtime, state: Open, now: datetime) -> bool:
    lease = 2 * runtime.channels.timeout(Channel.WEBHOOK)
    return state.probe_at <= now and breakers.take_probe(session, runtime, state.name, lease)


def _names(session: Transaction, tenant_id: str, found: Sequence[Due]) -> dict[str, str]:
    """{delivery: the breaker of its host}. A configuration's URL may have changed since the delivery was planned."""
    ids = {one.configuration_id for one in found if one.configuration_id}
    endpoints = webhooks.load(session, tenant_id, sorted(ids)) if ids else {}

    def url(one: Due) -> str:
        endpoint = endpoints.get(one.configuration_id or "")
        return endpoint.url if endpoint else one.address

    return {one.id: breakers.of_host(tenant_id, url(one)) for one in found}


def _put_off(
    session: Transaction, runtime: Runtime, tenant_id: str, waiting: Sequence[Due], states: Mapping[str, Open]
) -> None:
    now = runtime.clock.now()
    met: set[str] = set()
    verdicts = []
    for one in waiting:
        state = states[one.id]
        verdicts.append({"id": one.id, **_verdict(runtime, one, state, now, first=state.name not in met)})
        met.add(state.name)
    claims.put_off(session, tenant_id, verdicts, now)
    witness.ended(session, Channel.WEBHOOK, verdicts)


def _verdict(runtime: Runtime, one: Due, state: Open, now: datetime, *, first: bool) -> dict[str, Any]:
    """What becomes of one without a try: later, or its end, when the whole of its schedule is over."""
    if one.expired:
        return {"status": DeliveryStatus.SKIPPED, "reason": "expired", "delay": None}
    span = sum(schedule_for(Channel.WEBHOOK, runtime.settings)) * (1 + JITTER)
    patience = timedelta(seconds=max(span, runtime.settings.breaker_max_seconds))
    # Put off before: one that somebody tries again by hand is old as well, and has not been looked at yet.
    if one.reason == CIRCUIT_OPEN and now - one.created_at > patience:
        return {"status": DeliveryStatus.FAILED, "reason": CIRCUIT_OPEN, "delay": None}
    wait = delay(runtime, state, now, first=first)
    return {"status": DeliveryStatus.PENDING, "reason": CIRCUIT_OPEN, "delay": wait}
