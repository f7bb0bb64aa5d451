"""What a batch watches while it is sent: breakers, expiry, and whether others wait for its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.channels import label
from app.core.deliveries import alarms, breakers, hosts
from app.core.deliveries.breakers import Open
from app.core.deliveries.claims import Claim
from app.core.deliveries.content import Prepared
from app.core.deliveries.gates import Room
from app.core.deliveries.outcome import Tried
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.db import Transaction
from app.tenancy import Purpose, system
from providers.contract import Channel, OutboundMessage, Provider, Result

log = structlog.get_logger()

LEAST_SECONDS = 1.0  # a batch goes on undisturbed at first, however many wait


class Watch:
    """One batch on its way.

    `probes`: {delivery: the breaker that it asks}. `room` is None when somebody waits for the answer: then the batch is
    sent whatever the breakers say, and its success closes them.
    """

    def __init__(self, runtime: Runtime, claim: Claim, probes: Mapping[str, str], room: Room | None) -> None:
        self._runtime = runtime
        self._lane = Lane(claim.lane)
        self._channel = Channel(claim.channel)
        self._probes = probes
        self._unheard = dict(probes)
        self._room = room
        self._known = breakers.known(runtime)
        self._group = claim.tenant_id if claim.channel == Channel.WEBHOOK else ""
        self._began = time.monotonic()
        self._aside: list[Tried] = []

    def provider_for(self, claim: Claim) -> Provider | None:
        """Who takes this try: the provider that it asks, or one whose breaker is closed, if there is one."""
        resting = self._open_now
        if asked := self._probes.get(claim.id):
            resting = {name: state for name, state in resting.items() if name != asked}
            for provider in self._runtime.channels.providers(self._channel):
                if label(provider) == asked:
                    return provider
        return self._runtime.channels.provider_for(self._channel, claim.tries, resting)

    def admitted(self, provider: Provider, items: Iterable[Prepared]) -> Iterator[OutboundMessage]:
        """The messages when their turn comes. It ends early when the provider's breaker opens, others wait, or
        the process is to end.

        What is not given out is given back; what has its reason not to be is put aside.
        """
        for item in items:
            message = item.message
            if not isinstance(message, OutboundMessage):
                continue
            if self._must_stop(provider, item.claim):
                return
            if item.claim.is_late:
                self._aside.append(Tried(item.claim, None, None, skipped="expired"))
            elif state := self._broken_host(item.claim, message):
                wait = hosts.delay(self._runtime, state, self._runtime.clock.now(), first=False)
                self._aside.append(Tried(item.claim, None, None, wait=wait))
            else:
                yield message

    def put_aside(self) -> Iterator[Tried]:
        """What was put aside since last asked: expired, or for a host that does not answer."""
        while self._aside:
            yield self._aside.pop()

    def heard(self, claim: Claim, provider: Provider, result: Result) -> None:
        """A result: what it says of the other side is counted, and noted for all when it changes something."""
        if self._channel is Channel.IN_APP:
            return
        name = self._name(claim, provider, result.message)
        self._unheard.pop(claim.id, None)
        alive = breakers.says(result.outcome, own_sender=bool(result.message.sender))
        if alive:
            self._known.alive(name)
            if name in self._open_now and (claim.id in self._probes or self._room is None):
                self._close(name)
        elif claim.id in self._probes:
            self._asked_in_vain(name, getattr(result.outcome, "code", ""), alive=alive)
        elif alive is False and name not in self._open_now:
            most = self._runtime.settings.breaker_failures
            if most and self._known.fault(name) >= most:
                self._open(name, getattr(result.outcome, "code", ""))

    def close(self) -> None:
        """The batch has ended: a probe that was never sent lets the next delivery ask."""
        for name in self._unheard.values():
            self._asked_in_vain(name, "", alive=None)

    @property
    def _open_now(self) -> Mapping[str, Open]:
        return self._known.of(self._group)

    def _must_stop(self, provider: Provider, claim: Claim) -> bool:
        if self._runtime.stopping.is_set():
            return True
        if self._room is None:
            return False
        if label(provider) in self._open_now and claim.id not in self._probes:
            return True
        return time.monotonic() - self._began > LEAST_SECONDS and self._room.is_wanted(self._channel)

    def _broken_host(self, claim: Claim, message: OutboundMessage) -> Open | None:
        if self._channel is not Channel.WEBHOOK or not self._open_now or self._room is None:
            return None
        state = self._open_now.get(breakers.of_host(claim.tenant_id, message.to))
        return None if state is None or self._probes.get(claim.id) == state.name else state

    def _name(self, claim: Claim, provider: Provider, message: OutboundMessage) -> str:
        if self._channel is Channel.WEBHOOK:
            return breakers.of_host(claim.tenant_id, message.to)
        return label(provider)

    def _open(self, name: str, reason: str) -> None:
        now, seconds = self._runtime.clock.now(), breakers.pause(self._runtime, 1)
        self._known.set(name, Open(name, reason, 1, now, now + timedelta(seconds=seconds)))
        if self._note(lambda session: breakers.open_one(session, self._runtime, name, reason)):
            log.warning("breaker_opened", breaker=name, code=reason, seconds=seconds)
            alarms.ring_in(self._runtime, self._lane, seconds)

    def _close(self, name: str) -> None:
        self._known.set(name, None)
        if self._note(lambda session: breakers.close(session, self._runtime, name)):
            log.warning("breaker_closed", breaker=name)
            for lane in Lane:  # now, and when every process has heard of it
                self._runtime.bell.ring(Job.DELIVER, lane)
                alarms.ring_in(self._runtime, lane, breakers.GLANCE_SECONDS)

    def _asked_in_vain(self, name: str, reason: str, *, alive: bool | None) -> None:
        state = self._open_now.get(name)
        if alive is None or state is None:
            self._note(lambda session: breakers.ask_soon(session, self._runtime, name))
        elif self._note(lambda session: breakers.lengthen(session, self._runtime, state, reason)):
            seconds = breakers.pause(self._runtime, state.openings + 1)
            log.warning("breaker_stays_open", breaker=name, code=reason, seconds=seconds)
            alarms.ring_in(self._runtime, self._lane, seconds)

    def _note(self, change: Callable[[Transaction], bool]) -> bool:
        """Whether the change was ours to make. A database that is away keeps back no result."""
        try:
            with self._runtime.db.work(system(Purpose.CLAIM)) as session:
                return change(session)
        except SQLAlchemyError as error:
            log.warning("breaker_not_noted", error=type(error).__name__)
            return False
