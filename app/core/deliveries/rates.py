"""How many messages a provider may be given now, for all processes together.

A row of `provider_rates` is a provider's clock: the time up to which its messages are already given out (the generic
cell rate algorithm). Each message moves it on by one interval, and nobody may move it further than BURST_SECONDS into
the future. So the rate holds over any number of processes, and whatever happens to Redis.

Nobody waits for a clock that another claim holds: its provider gives nothing just then. So claims that want several
clocks never wait for one another, and a process that is stopped while it holds one stops no other channel.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app import rows
from app.core.channels import label
from app.core.runtime import Runtime
from app.db import Database, Transaction
from app.models.base import utc_text
from providers.contract import Channel, Provider

BURST_SECONDS = 0.25  # what was not used is not lost up to this much: a claim takes so many at once, at least one
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}

HELD_SECONDS = 0.05  # until a clock is asked for again that another claim holds

_BEGIN_SQLITE = (
    "INSERT INTO provider_rates (name, next_free_at) VALUES (:name, :now) ON CONFLICT DO NOTHING RETURNING name"
)
# Two that wrote it at once would wait for each other.
_BEGIN_POSTGRES = (
    "INSERT INTO provider_rates (name, next_free_at) SELECT CAST(:name AS varchar), now()"
    " WHERE pg_try_advisory_xact_lock(1952539764, hashtext(CAST(:name AS varchar)))"
    " ON CONFLICT DO NOTHING RETURNING name"
)
# Locked until the claim commits: who comes next sees what was taken.
_AHEAD_POSTGRES = (
    "SELECT extract(epoch FROM next_free_at - now())::float8 FROM provider_rates WHERE name = :name"
    " FOR UPDATE SKIP LOCKED"
)
_AHEAD_SQLITE = "SELECT next_free_at FROM provider_rates WHERE name = :name"
_CHARGE_POSTGRES = (
    "UPDATE provider_rates SET next_free_at = greatest(next_free_at, now()) + :seconds * interval '1 second'"
    " WHERE name = :name"
)
_CHARGE_SQLITE = "UPDATE provider_rates SET next_free_at = :until WHERE name = :name"


@dataclass(frozen=True, slots=True)
class Permit:
    """Up to `count` messages may be claimed for a provider; `charge` those that are.

    `ahead`: seconds by which its clock is ahead of now. `interval`: seconds between two messages. `held`: another claim
    holds its clock.
    """

    name: str
    count: int
    ahead: float
    interval: float
    held: bool = False

    def wait(self, taken: int) -> float:
        """Seconds until it is worth while to come again, if so many are taken now."""
        if self.held:
            return HELD_SECONDS
        wanted = max(1, int(_burst(self.interval) / self.interval) // 2)
        return max(0.0, self.ahead + (taken + wanted) * self.interval - _burst(self.interval))


_empty_until: WeakKeyDictionary[Database, dict[str, float]] = WeakKeyDictionary()
_lock = threading.Lock()


def interval(runtime: Runtime, channel: Channel) -> float | None:
    """Seconds between two messages of a provider of this channel; None without a limit."""
    given = {Channel.EMAIL: runtime.settings.email_rate, Channel.SMS: runtime.settings.sms_rate}.get(channel)
    return _interval(given) if given else None


@lru_cache(maxsize=8)
def _interval(given: str) -> float:
    count, _, unit = given.split(" ")
    return _SECONDS[unit] / int(count)


def wait_known(runtime: Runtime, provider: Provider) -> float:
    """Seconds for which this process knows that nothing is free, so that it need not ask the table."""
    return max(0.0, _empty(runtime).get(label(provider), 0.0) - time.monotonic())


def permit(session: Transaction, runtime: Runtime, provider: Provider) -> Permit | None:
    """How many messages a provider may be given now; None: as many as you like.

    Holds its row until the transaction ends; while another does, nothing is permitted. The session must be a `system`
    one.
    """
    between = interval(runtime, Channel(provider.channel))
    if between is None:
        return None
    name, now = label(provider), runtime.clock.now()
    before = _ahead(session, name, now)
    if before is None:
        return Permit(name, 0, 0.0, between, held=True)
    ahead = max(0.0, before)
    count = max(0, int((_burst(between) - ahead) / between + 1e-6))
    found = Permit(name, count, ahead, between)
    if not count:
        _empty(runtime)[name] = time.monotonic() + found.wait(0)
    return found


def is_used_up(session: Session, runtime: Runtime, provider: Provider) -> bool:
    """Whether a provider has been given all that its rate allows just now. The session must be a `system` one."""
    if interval(runtime, Channel(provider.channel)) is None:
        return False
    postgres = rows.is_postgres(session)
    ahead = text(f"SELECT next_free_at > {'now()' if postgres else ':now'} FROM provider_rates WHERE name = :name")
    values = {"name": label(provider)} | ({} if postgres else {"now": utc_text(runtime.clock.now())})
    return bool(session.execute(ahead, values).scalar())


def charge(session: Transaction, runtime: Runtime, taken: Permit, count: int) -> None:
    """So many of the permitted messages were claimed. In the transaction of the permit."""
    if not count:
        return
    if rows.is_postgres(session):
        session.execute(text(_CHARGE_POSTGRES), {"name": taken.name, "seconds": count * taken.interval})
        return
    until = runtime.clock.now() + timedelta(seconds=taken.ahead + count * taken.interval)
    session.execute(text(_CHARGE_SQLITE), {"name": taken.name, "until": utc_text(until)})


def _burst(between: float) -> float:
    """How far into the future messages may be given out: BURST_SECONDS, at least one message."""
    return max(BURST_SECONDS, between)


def _ahead(session: Transaction, name: str, now: datetime) -> float | None:
    """Seconds by which the provider's clock is ahead of now; negative when it lags behind. None: another holds it."""
    postgres = rows.is_postgres(session)
    found: Any = session.execute(_ask(postgres), {"name": name}).scalar()
    if found is not None:
        return float(found) if postgres else (datetime.fromisoformat(found) - now).total_seconds()
    begun = session.execute(_begin(postgres), {"name": name} | ({} if postgres else {"now": utc_text(now)})).scalar()
    return None if begun is None else 0.0


@lru_cache(maxsize=2)
def _begin(postgres: bool) -> TextClause:
    return text(_BEGIN_POSTGRES if postgres else _BEGIN_SQLITE)


@lru_cache(maxsize=2)
def _ask(postgres: bool) -> TextClause:
    return text(_AHEAD_POSTGRES if postgres else _AHEAD_SQLITE)


def _empty(runtime: Runtime) -> dict[str, float]:
    with _lock:
        return _empty_until.setdefault(runtime.db, {})
