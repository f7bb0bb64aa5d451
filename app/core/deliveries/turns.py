"""Whose turn it is to be sent: which tenant and channel, and how many now.

Tenants take turns. A channel is passed over while nobody of it could be sent: its room is full, its providers' breakers
are open, or its providers' rate is used up. What waits for that waits in its rows, untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.channels import label
from app.core.deliveries import alarms, breakers, claims, hosts, rates
from app.core.deliveries.breakers import Known, Open
from app.core.deliveries.claims import BATCH, FIRST, FIRST_SLOT, RETRY, SUSPECT, Due, Slot
from app.core.deliveries.drafts import Row
from app.core.deliveries.gates import Room
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.db import Transaction
from providers.contract import Channel, Provider

SUSPECTS_EVERY = 10  # one claim in so many begins with a suspect, so that a busy tenant does not starve them
RETRIES_EVERY = 4  # and one in so many with retries
_SLOTS = 8  # looked up at a time
_ANY_TENANT = text("SELECT id FROM tenants ORDER BY random() LIMIT 1")
_rounds = count(1)
_served: dict[Lane, Slot] = {}  # where this process is in the round of tenants and channels


@dataclass(frozen=True, slots=True)
class Turn:
    """What may be claimed now: deliveries of one tenant and channel.

    `probes`: {delivery: the breaker that it asks}. `more`: others are due besides.
    """

    tenant_id: str
    channel: str
    ids: Sequence[str]
    probes: Mapping[str, str] = field(default_factory=dict)
    more: bool = False


def take(session: Transaction, runtime: Runtime, lane: Lane, room: Room) -> Turn | None:
    """The next turn of a lane for which there is room; None if there is none. The session must be a `system` one."""
    ways = _Ways(session, runtime, lane, room)
    others = _round(session, runtime, lane, ways.channels)
    full: set[str] = set()
    for slot in others:
        tenant_id, channel = slot
        if channel in full or channel in ways.shut:
            continue
        if not room.enter(channel, tenant_id):
            full |= set() if room.has_space(channel) else {channel}
            continue
        _served[lane] = slot
        turn = ways.turn_of(slot)
        if turn.ids or turn.more:
            return turn if turn.more else replace(turn, more=next(others, None) is not None)
        room.give_back(channel)
    return None


def held_back(session: Session, runtime: Runtime) -> set[str]:
    """The channels on which work waits for others than our workers: every provider's breaker is open, or its rate used.

    The session must be a `system` one.
    """
    now = runtime.clock.now()
    open_ = {state.name for state in breakers.states(session, now)}

    def gives(provider: Provider) -> bool:
        return label(provider) not in open_ and not rates.is_used_up(session, runtime, provider)

    served = {channel: runtime.channels.providers(channel) for channel in (Channel.EMAIL, Channel.SMS)}
    return {channel.value for channel, providers in served.items() if providers and not any(map(gives, providers))}


def at_once(runtime: Runtime, rows: Sequence[Row]) -> list[Row]:
    """Those of some fresh deliveries that need not wait: no rate to be kept, and no breaker known to be open."""
    known = breakers.known(runtime)
    return [row for row in rows if not _waits(runtime, row, known)]


def _waits(runtime: Runtime, row: Row, known: Known) -> bool:
    channel = Channel(row["channel"])
    if channel is Channel.WEBHOOK:
        broken = known.of(row["tenant_id"])
        return bool(broken) and breakers.of_host(row["tenant_id"], row["address"]) in broken
    if rates.interval(runtime, channel) is not None:
        return True
    providers = runtime.channels.providers(channel)
    return bool(providers) and all(label(provider) in known.of() for provider in providers)


def _round(session: Transaction, runtime: Runtime, lane: Lane, channels: Sequence[str]) -> Iterator[Slot]:
    """Every slot of a lane once, beginning behind the one that was served last; in a new process, anywhere."""
    begin = _served.get(lane) or _anywhere(session)
    seen: set[Slot] = set()
    for last, end in ((begin, None), (FIRST_SLOT, begin)):
        while True:
            found = claims.slots(session, lane, runtime.clock.now(), last, channels, _SLOTS)
            for slot in found:
                if slot not in seen:
                    seen.add(slot)
                    yield slot
            if len(found) < _SLOTS or (end and found[-1] > end):
                break
            last = found[-1]


def _anywhere(session: Transaction) -> Slot:
    """Where a new process begins: beginning at the first, those that are restarted often would starve the last."""
    found = session.execute(_ANY_TENANT).scalar()
    return (str(found), "") if found else FIRST_SLOT


def _first_of(number: int) -> int:
    """Which turn a claim begins with."""
    return SUSPECT if number % SUSPECTS_EVERY == 0 else RETRY if number % RETRIES_EVERY == 0 else FIRST


class _Ways:
    """Which channels lead anywhere just now, and how many deliveries each may be given."""

    def __init__(self, session: Transaction, runtime: Runtime, lane: Lane, room: Room) -> None:
        self._session, self._runtime, self._lane, self._room = session, runtime, lane, room
        self._now = runtime.clock.now()
        self._open = breakers.glance(session, runtime)
        self.channels = [channel.value for channel in Channel if self._leads_on(channel)]
        self.shut: set[str] = set()  # those of which this job has learned that they lead nowhere

    def turn_of(self, slot: Slot) -> Turn:
        """What of a slot may be claimed now."""
        if slot[1] == Channel.WEBHOOK:
            if broken := breakers.glance(self._session, self._runtime, slot[0]):
                return self._of_whole_hosts(slot, broken)
            return self._batch(slot, [])
        providers = self._providers(slot[1])
        for provider in providers:
            if probe := self._probe(slot, provider):
                return probe
        closed = [provider for provider in providers if label(provider) not in self._open]
        if providers and not closed:
            self.shut.add(slot[1])
            return Turn(*slot, [])
        return self._batch(slot, closed)

    def _of_whole_hosts(self, slot: Slot, broken: Mapping[str, Open]) -> Turn:
        """Webhooks while some of the tenant's hosts are broken."""
        free = self._room.enter_alone()
        found = hosts.sort_out(self._session, self._runtime, self._lane, slot[0], broken, suspects=free)
        if free and not found.alone:
            self._room.leave_alone()
        return Turn(*slot, found.ids, found.probes, more=found.more or found.alone)

    def _leads_on(self, channel: Channel) -> bool:
        """Whether a look at the rows is worth while: a provider may be given something, or it is time to ask one.

        A channel that this process has no provider for is left to those that have one: its settings may be at fault.
        """
        if not self._runtime.channels.providers(channel):
            return False
        providers = self._providers(channel)
        return not providers or any(self._is_ready(provider) for provider in providers)

    def _is_ready(self, provider: Provider) -> bool:
        state = self._open.get(label(provider))
        return (state is None or state.probe_at <= self._now) and not rates.wait_known(self._runtime, provider)

    def _providers(self, channel: str) -> Sequence[Provider]:
        """Those with a breaker of their own. A webhook's is its host's, and the bell has none."""
        alone = channel in (Channel.WEBHOOK, Channel.IN_APP)
        return () if alone else self._runtime.channels.providers(Channel(channel))

    def _probe(self, slot: Slot, provider: Provider) -> Turn | None:
        """One delivery that asks a provider whose time has come, if this process is the one to ask."""
        state = self._open.get(label(provider))
        if state is None or state.probe_at > self._now:
            return None
        permit = rates.permit(self._session, self._runtime, provider)
        found = self._due(slot, 1) if permit is None or permit.count else []
        lease = 2 * self._runtime.channels.timeout(Channel(slot[1]))
        if not found or not breakers.take_probe(self._session, self._runtime, state.name, lease):
            return None
        if permit:
            rates.charge(self._session, self._runtime, permit, 1)
        return Turn(*slot, [found[0].id], {found[0].id: state.name})

    def _due(self, slot: Slot, limit: int, first: int = FIRST) -> list[Due]:
        """What is due of a slot; a suspect only if this process tries no other just now."""
        free = self._room.enter_alone()
        found = claims.due(self._session, self._lane, slot, self._now, limit, first=first, suspects=free)
        if free and not (found and found[0].turn == SUSPECT):
            self._room.leave_alone()
        return found

    def _batch(self, slot: Slot, providers: Sequence[Provider]) -> Turn:
        """As many as the providers' rates allow now. A try may meet any of them: the slowest decides."""
        asked = [rates.permit(self._session, self._runtime, provider) for provider in providers]
        permits = [permit for permit in asked if permit]
        limit = min([BATCH, *(permit.count for permit in permits)])
        found = self._due(slot, limit, _first_of(next(_rounds))) if limit else []
        for permit in permits:
            rates.charge(self._session, self._runtime, permit, len(found))
        alone = bool(found) and found[0].turn == SUSPECT
        if any(permit.count <= len(found) for permit in permits):
            self.shut.add(slot[1])
            alarms.ring_in(self._runtime, self._lane, max(permit.wait(len(found)) for permit in permits))
            return Turn(*slot, [one.id for one in found])
        return Turn(*slot, [one.id for one in found], more=alone or len(found) == limit)
