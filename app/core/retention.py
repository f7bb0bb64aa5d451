"""How long things are kept, and removing what is older in small batches: bounded windows of ids, oldest first.

UUIDv7 order is time order, so a window costs the same wherever it lies and whatever in it is kept. How far each kind
has come stands in `service_state`, for all processes. What is unfinished is never removed, however old it is.

On PostgreSQL the big tables go by the month (`app.partitions`); their rows are removed one by one only when that was
not done in time, or when something unfinished keeps a month.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.orm import Session

from app import rows
from app.config import Settings
from app.ids import first_id_of
from app.metrics import PRUNED
from app.models import ServiceState
from app.models.base import Utc

BATCH = 1_000  # rows looked at in one transaction
MONTH_GRACE = timedelta(days=35)  # of rows whose month should have been dropped as a whole
REST = timedelta(minutes=30)  # of a kind after its newest window
_STATE = "retention"
_NOTHING = first_id_of(datetime.fromtimestamp(0))

_WINDOW = """
SELECT id FROM (SELECT id FROM {table} WHERE id > :after AND id < :before ORDER BY id LIMIT :batch) AS seen
ORDER BY id DESC LIMIT 1
"""
_DELETE = "DELETE FROM {table} WHERE id > :after AND id <= :last AND {finished}"
_NO_DELIVERY = "NOT EXISTS (SELECT 1 FROM notification_logs AS d WHERE {which})"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is kept for `days` (0: for ever). `finished` is the condition under which a row may go."""

    name: str
    table: str
    days: Callable[[Settings], int]
    finished: str = "true"
    by_month: bool = False


def _shorter(*days: int) -> int:
    """The shorter of some retentions, where 0 is for ever."""
    return min((one for one in days if one), default=0)


def _attempts(settings: Settings) -> int:
    return _shorter(settings.keep_attempts_days, settings.keep_events_days)


def _contents(settings: Settings) -> int:
    return _shorter(settings.keep_contents_days, settings.keep_events_days)


def _events(settings: Settings) -> int:
    return settings.keep_events_days


# What refers to others goes before them: an event goes when none of its deliveries is left.
KINDS = (
    Kind(
        "contents",
        "delivery_contents",
        _contents,
        _NO_DELIVERY.format(which="d.id = delivery_contents.id AND d.status IN ('pending', 'sending')"),
    ),
    Kind("webhook_attempts", "webhook_delivery_logs", _attempts, by_month=True),
    Kind(
        "attempts",
        "delivery_attempts",
        _attempts,
        "(outcome IS NOT NULL OR "
        + _NO_DELIVERY.format(which="d.id = delivery_attempts.delivery_id AND d.status = 'sending'")
        + ")",
        by_month=True,
    ),
    Kind("deliveries", "notification_logs", _events, "status NOT IN ('pending', 'sending')", by_month=True),
    Kind(
        "events",
        "event_logs",
        _events,
        "status IN ('planned', 'failed') AND "
        + _NO_DELIVERY.format(which="d.tenant_id = event_logs.tenant_id AND d.event_id = event_logs.id"),
        by_month=True,
    ),
    Kind("read_notifications", "notifications", lambda s: s.keep_read_notifications_days, "read_at < :moment"),
    Kind("notifications", "notifications", lambda s: s.keep_notifications_days),
)


def days(settings: Settings) -> dict[str, int]:
    """{partitioned table: how many days its rows are kept, 0 for ever}."""
    return {kind.table: kind.days(settings) for kind in KINDS if kind.by_month}


def prune(session: Session, settings: Settings, now: datetime) -> bool:
    """Remove what is too old in one window of the first kind that has any left. False: all of them rest.

    One process at a time.
    """
    state = session.get(ServiceState, _STATE) or ServiceState(name=_STATE, value={})
    for kind in KINDS:
        at = state.value.get(kind.name, {})
        if not kind.days(settings) or at.get("rests_until", "") > now.isoformat():
            continue
        after = _prune_window(session, kind, settings, now, at.get("after", _NOTHING))
        found = {"after": after} if after else {"rests_until": (now + REST).isoformat()}
        state.value = {**state.value, kind.name: found}
        state.measured_at = now
        session.add(state)
        return True
    return False


def _prune_window(session: Session, kind: Kind, settings: Settings, now: datetime, after: str) -> str | None:
    """Returns the last id that was looked at; None: there was none."""
    moment = now - timedelta(days=kind.days(settings))
    if kind.by_month and rows.is_postgres(session):
        moment -= MONTH_GRACE
    window = {"after": after, "before": first_id_of(moment), "batch": BATCH}
    last = session.execute(_statement(_WINDOW, kind.table), window).scalar()
    if last is None:
        return None
    values: dict[str, Any] = {"after": after, "last": str(last)}
    if ":moment" in kind.finished:
        values["moment"] = moment
    removed = session.execute(_statement(_DELETE, kind.table, kind.finished), values)
    PRUNED.labels(kind.name).inc(removed.rowcount)  # type: ignore[attr-defined]
    return str(last)


@lru_cache(maxsize=32)
def _statement(template: str, table: str, finished: str = "") -> TextClause:
    made = text(template.format(table=table, finished=finished))
    return made.bindparams(bindparam("moment", type_=Utc)) if ":moment" in finished else made
