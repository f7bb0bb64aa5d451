"""Circuit breakers: what does not answer is left alone, and asked by one delivery at a time until it does.

One for each provider (`email:smtp`), one for each tenant and webhook host. A row of `breakers` is an open one, known to
all processes; faults are counted in each process, and the table is written only when something changes.

A webhook's breaker has the tenant in its name: one tenant's dead path, or a receiver that fails only for that tenant,
must not keep another tenant's messages from the same host.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from sqlalchemy import TextClause, TextualSelect, text

from app import rows
from app.core.runtime import Runtime
from app.db import Database, Transaction
from app.models.base import Utc, utc_text
from providers.contract import Accepted, Channel, PermanentError, RetryableError

GLANCE_SECONDS = 0.5  # how old a process's knowledge of the table may be
FORGOTTEN_SECONDS = 86_400.0
_STREAK_SECONDS = 60.0  # faults further apart than this are not one outage
_MOST_STREAKS = 10_000
_MOST_GROUPS = 1_000  # of which a process keeps what it knows
MOST_HOSTS = 500  # of a tenant that are open at once: with more broken ones it only pays in attempts
# The exchange itself broke, or what answered was no answer.
_BROKEN = frozenset(
    {"timeout", "dns_error", "connection_refused", "connection_reset", "connection_failed", "unreachable", "tls_error"}
    | {"transport_error", "truncated", "response_too_large", "bad_response", "smtp_421", "auth_failed"}
)
# The answer was about this message: it was never handed over, or our own side failed.
_NO_WORD = frozenset(
    {"blocked_address", "invalid_url", "invalid_header", "invalid_message", "invalid_address", "invalid_attachment"}
    | {"invalid_text", "invalid_number", "empty_message", "internal_error", "disk_full", "storage_failed"}
    | {"smtputf8_unsupported", "message_too_large"}
)

_STATES = "SELECT name, reason, openings, opened_at, {probe_at} AS probe_at FROM breakers WHERE {where}"
_OF_TENANT = "{name} >= :low AND {name} < :high"
_OF_PROVIDERS = "{name} < :low OR {name} >= :high"
_OPEN = """
INSERT INTO breakers (name, reason, openings, opened_at, probe_at)
VALUES (:name, :reason, 1, {now}, {later}) ON CONFLICT DO NOTHING RETURNING name
"""
_OPEN_HOST = """
INSERT INTO breakers (name, reason, openings, opened_at, probe_at)
SELECT {text}, {cause}, 1, {now}, {later}
WHERE (SELECT count(*) FROM breakers WHERE {ordered} >= :low AND {ordered} < :high) < :most
ON CONFLICT DO NOTHING RETURNING name
"""
_CLOSE = "DELETE FROM breakers WHERE name = :name RETURNING name"
# Of all that see that it is time, one moves it on, and is the one that asks.
# Nobody waits for a row that another holds: it is being asked for, or is about to be closed.
_TAKE_PROBE = """
UPDATE breakers SET probe_at = {later}
WHERE name = (SELECT name FROM breakers WHERE name = :name AND probe_at <= {now} {lock}) RETURNING name
"""
_LENGTHEN = """
UPDATE breakers SET openings = openings + 1, reason = :reason, probe_at = {later}
WHERE name = :name AND openings = :openings RETURNING name
"""
# Nobody has had anything for it for so long: the next fault opens it anew.
_FORGET = "DELETE FROM breakers WHERE probe_at < {later}"
_ASK_SOON = "UPDATE breakers SET probe_at = {now} WHERE name = :name RETURNING name"


@dataclass(frozen=True, slots=True)
class Open:
    """An open breaker: a row of the table. From `probe_at` on one delivery may ask whether it can be closed."""

    name: str
    reason: str
    openings: int
    opened_at: datetime
    probe_at: datetime


class Known:
    """What one process knows: which breakers are open, as of a moment ago, and its own streaks of faults.

    It is kept in groups: the providers' ('') and each tenant's webhook hosts. So nobody pays for another's hosts.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[str, tuple[float, Mapping[str, Open]]] = OrderedDict()
        self._lock = threading.Lock()
        self._changed_at = float("-inf")
        self._streaks: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def of(self, tenant_id: str = "") -> Mapping[str, Open]:
        """The open breakers of the providers, or of a tenant's webhook hosts, by name."""
        return self._groups.get(tenant_id, _NEVER)[1]

    def is_old(self, tenant_id: str = "") -> bool:
        """Whether it is time for another look at the table."""
        seen_at = self._groups.get(tenant_id, _NEVER)[0]
        return seen_at <= self._changed_at or time.monotonic() - seen_at > GLANCE_SECONDS

    def learn(self, found: Sequence[Open], tenant_id: str = "") -> None:
        """What the table holds."""
        with self._lock:
            self._groups[tenant_id] = time.monotonic(), {one.name: one for one in found}
            self._groups.move_to_end(tenant_id)
            if len(self._groups) > _MOST_GROUPS:
                self._groups.popitem(last=False)

    def forget(self) -> None:
        """Something has changed: look again next time."""
        self._changed_at = time.monotonic()

    def set(self, name: str, state: Open | None) -> None:
        """What this process has just decided itself."""
        with self._lock:
            seen_at, open_ = self._groups.get(_group(name), _NEVER)
            others = {key: one for key, one in open_.items() if key != name}
            self._groups[_group(name)] = seen_at, others | ({name: state} if state else {})
            self._streaks.pop(name, None)

    def alive(self, name: str) -> None:
        """An answer came: the streak is over."""
        if name in self._streaks:
            with self._lock:
                self._streaks.pop(name, None)

    def fault(self, name: str) -> int:
        """One more fault; returns how many it is by now, one after the other."""
        now = time.monotonic()
        with self._lock:
            count, last = self._streaks.pop(name, (0, now))
            count = count + 1 if now - last < _STREAK_SECONDS else 1
            self._streaks[name] = (count, now)  # the last one now: those that are first are forgotten first
            if len(self._streaks) > _MOST_STREAKS:
                self._streaks.popitem(last=False)
            return count


_NEVER: tuple[float, Mapping[str, Open]] = (float("-inf"), MappingProxyType({}))
_known: WeakKeyDictionary[Database, Known] = WeakKeyDictionary()
_known_lock = threading.Lock()


def known(runtime: Runtime) -> Known:
    """What this process knows of the breakers in its database."""
    found = _known.get(runtime.db)
    if found is None:
        with _known_lock:
            found = _known.setdefault(runtime.db, Known())
    return found


def glance(session: Transaction, runtime: Runtime, tenant_id: str = "") -> Mapping[str, Open]:
    """The open breakers of the providers, or of a tenant's webhook hosts, by name; at most GLANCE_SECONDS old.

    The session must be a `system` one.
    """
    here = known(runtime)
    if here.is_old(tenant_id):
        here.learn(states(session, runtime.clock.now(), tenant_id), tenant_id)
    return here.of(tenant_id)


def states(session: Transaction, now: datetime, tenant_id: str = "") -> list[Open]:
    """The same from the table; `probe_at` by the clock that says `now`. The session must be a `system` one."""
    postgres = rows.is_postgres(session)
    values = _range(tenant_id) | ({"now": utc_text(now)} if postgres else {})
    found = session.execute(_typed(_OF_TENANT if tenant_id else _OF_PROVIDERS, postgres), values)
    return [Open(**row) for row in found.mappings()]


@lru_cache(maxsize=4)
def _typed(where: str, postgres: bool) -> TextualSelect:
    # The table has the database's time. Whose clock is wrong must neither ask too often nor never.
    probe_at = "probe_at - now() + CAST(:now AS timestamptz)" if postgres else "probe_at"
    where = where.format(name=_in_order(postgres))
    return text(_STATES.format(probe_at=probe_at, where=where)).columns(opened_at=Utc, probe_at=Utc)


def _in_order(postgres: bool) -> str:
    """The name as it is ordered by its bytes, and indexed."""
    return 'name COLLATE "C"' if postgres else "name"


def _range(tenant_id: str) -> dict[str, str]:
    """The names of a tenant's hosts, or without one of all hosts: from `low` to before `high`."""
    prefix = f"{Channel.WEBHOOK}:{tenant_id}" if tenant_id else Channel.WEBHOOK.value
    return {"low": f"{prefix}:", "high": f"{prefix};"}


def _group(name: str) -> str:
    kind, _, rest = name.partition(":")
    return rest.partition(":")[0] if kind == Channel.WEBHOOK else ""


def of_tenant(tenant_id: str) -> str:
    """What the names of the breakers of a tenant's webhook hosts begin with."""
    return f"{Channel.WEBHOOK}:{tenant_id}:"


@lru_cache(maxsize=8192)
def of_host(tenant_id: str, url: str) -> str:
    """The name of the breaker of a tenant's webhook host: host and port of the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        return f"{of_tenant(tenant_id)}{parts.hostname}:{port}"
    except ValueError:
        return f"{of_tenant(tenant_id)}{url[:100]}"  # no URL: nobody answers there


def says(outcome: Accepted | Exception, *, own_sender: bool = False) -> bool | None:
    """What the result of a try says of the other side: it is alive (True), it is not (False), or nothing (None).

    Transport faults, 5xx and refused credentials say that it is not. A 4xx about one address or message says that it
    is: it was read and answered.
    `own_sender`: the message named a sender of its own, whose refusal concerns nobody else.
    """
    if isinstance(outcome, Accepted):
        return True
    if not isinstance(outcome, RetryableError | PermanentError) or outcome.code in _NO_WORD:
        return None
    if outcome.code == "sender_refused" and own_sender:
        return True
    if outcome.code in _BROKEN or getattr(outcome, "loud", False):
        return False
    status = outcome.detail.get("status")
    if isinstance(status, int):
        return status < 500
    if outcome.code.startswith("smtp_"):
        return "stage" in outcome.detail  # otherwise it turned us away before we had named anybody
    return None


def pause(runtime: Runtime, openings: int) -> float:
    """Seconds that a breaker is left alone after it has opened so many times: doubling, up to a limit."""
    first, most = runtime.settings.breaker_seconds, runtime.settings.breaker_max_seconds
    return float(min(most, first * 2 ** min(openings - 1, 30)))


def open_one(session: Transaction, runtime: Runtime, name: str, reason: str) -> bool:
    """Open a breaker. False: another process has, or the tenant has MOST_HOSTS open already."""
    if tenant_id := _group(name):
        limits = _range(tenant_id) | {"most": MOST_HOSTS}
        return _change(session, runtime, _OPEN_HOST, name, pause(runtime, 1), reason=reason, **limits)
    return _change(session, runtime, _OPEN, name, pause(runtime, 1), reason=reason)


def lengthen(session: Transaction, runtime: Runtime, state: Open, reason: str) -> bool:
    """The probe has failed. False: another's word came first."""
    seconds = pause(runtime, state.openings + 1)
    return _change(session, runtime, _LENGTHEN, state.name, seconds, reason=reason, openings=state.openings)


def close(session: Transaction, runtime: Runtime, name: str) -> bool:
    """The other side answers again. False: another has closed it already."""
    return _change(session, runtime, _CLOSE, name)


def take_probe(session: Transaction, runtime: Runtime, name: str, lease_seconds: float) -> bool:
    """Become the one who asks; if nothing is heard of it, another may after `lease_seconds`."""
    return _change(session, runtime, _TAKE_PROBE, name, lease_seconds)


def ask_soon(session: Transaction, runtime: Runtime, name: str) -> bool:
    """The probe came to no word about the other side: let the next delivery ask."""
    return _change(session, runtime, _ASK_SOON, name)


def prune(session: Transaction, runtime: Runtime) -> None:
    """Forget those that nobody has asked for a day: hosts to which nothing is sent any more."""
    _execute(session, runtime, _FORGET, {}, -FORGOTTEN_SECONDS)


def _change(
    session: Transaction, runtime: Runtime, template: str, name: str, seconds: float = 0.0, **values: Any
) -> bool:
    known(runtime).forget()
    return _execute(session, runtime, template, {"name": name, **values}, seconds).first() is not None


def _execute(
    session: Transaction, runtime: Runtime, template: str, values: dict[str, Any], seconds: float = 0.0
) -> Any:
    postgres = rows.is_postgres(session)
    now = runtime.clock.now()
    if "{later}" in template:
        values |= {"seconds": seconds} if postgres else {"later": utc_text(now + timedelta(seconds=seconds))}
    if "{now}" in template and not postgres:
        values["now"] = utc_text(now)
    return session.execute(_statement(template, postgres), values)


@lru_cache(maxsize=16)
def _statement(template: str, postgres: bool) -> TextClause:
    later = "now() + :seconds * interval '1 second'" if postgres else ":later"
    lock = "FOR UPDATE SKIP LOCKED" if postgres else ""
    words = {"text": "CAST(:name AS varchar)", "cause": "CAST(:reason AS varchar)"}
    words |= {"now": "now()" if postgres else ":now", "later": later, "lock": lock, "ordered": _in_order(postgres)}
    return text(template.format(**words))
