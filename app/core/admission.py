"""Whether more work is taken in: refused with a word on when to come back, rather than accepted and late without end.

A lane is full when too much is due in it and in those before it. So bulk is refused first; what waits there closes
no other door. Transactional work has a limit of its own. A full lane is closed to the tenants that have filled it,
not to the others (see `backlog.Pressure`). What waits for a later try is not counted, nor what waits for a provider
that is down or has given all that its rate allows: one receiver must not close the service to everybody.

The sweep measures (see `backlog`); here its figure is read about once a second. Without a fresh figure all are let
in. That reading is also the probe of the database: while it fails, lasts, or finds no connection, nobody is let in,
and it is made more often, so that the door opens as soon as the database is back. While there is no answer at all,
every request is refused: each would hold a thread, until none is left to say that it is in vain. A database that fails
at once holds none, and each request finds out for itself whether it can be served.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core import backlog
from app.core.backlog import Backlog
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.errors import RequestError
from app.patience import Asking
from app.tenancy import Purpose, system

log = structlog.get_logger()

EVERY_SECONDS = 1.0
_AGAIN_SECONDS = 0.1  # after a reading that failed
_STALE_SECONDS = 60.0  # a figure older than this, and than this many times what it took, says nothing any more
_RETRY_SECONDS = {Lane.TRANSACTIONAL: 5, Lane.NORMAL: 15, Lane.BULK: 60}
_DATABASE_SECONDS = 5


class Pressed(StrEnum):
    """What there is too little of."""

    BACKLOG = "backlog"
    DATABASE = "database"


class OverloadedError(RequestError):
    """No more is taken in for this lane. Nothing was written. `retry_after`: seconds."""

    status = 503
    code = "overloaded"

    def __init__(self, detail: str, retry_after: int, lane: Lane, why: Pressed) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.lane = lane
        self.why = why


class SilentDatabaseError(RequestError):
    """The database gives no answer. Nothing was read or written. `retry_after`: seconds."""

    status = 503
    code = "database_unavailable"
    retry_after = _DATABASE_SECONDS


class Admission:
    """One process's view of the pressure, shared by its threads."""

    def __init__(self, runtime: Runtime, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._runtime = runtime
        self._every = every_seconds
        self._slow = runtime.settings.max_database_delay / 1000  # for one row by its key
        self._lock = threading.Lock()
        self._figure: Backlog | None = None
        self._well = True  # whether the last reading went well
        self._silent = False  # whether it failed after a long time
        self._read_at = float("-inf")
        self._reading = Asking(self._read)

    def look(self) -> None:
        """Raise SilentDatabaseError while the database does not answer at all; for requests of every kind."""
        self._look_again()
        if self._silent or self._lasts():
            raise SilentDatabaseError("The database does not answer just now.")

    def judge(self, lanes: Iterable[Lane], tenant_id: str) -> None:
        """Raise OverloadedError if no more of this tenant's is taken in for one of these lanes."""
        self._look_again()
        wanted = sorted(set(lanes), key=list(Lane).index, reverse=True)
        if not self._well or self._lasts():
            detail = "The database is not up to more just now."
            raise OverloadedError(detail, _DATABASE_SECONDS, wanted[0], Pressed.DATABASE)
        for lane in wanted:
            if self._is_full(lane, tenant_id):
                detail = f"Too much waits in the lane {lane.value} already."
                raise OverloadedError(detail, _RETRY_SECONDS[lane], lane, Pressed.BACKLOG)

    def _look_again(self) -> None:
        """Read the figure anew when it is time. One thread waits for it, and not for long; the others go by what is."""
        now = time.monotonic()
        with self._lock:
            every = self._every if self._well else min(self._every, _AGAIN_SECONDS)
            if self._reading.lasts or now - self._read_at < every:
                return
            self._read_at = now
        with suppress(TimeoutError):
            self._reading.answer(self._slow)

    def _read(self) -> None:
        if self._runtime.db.exhausted:  # which says nothing new of the database
            with self._lock:
                self._well, self._read_at = False, time.monotonic()
            return
        began, found, answered = time.monotonic(), None, False
        try:
            with self._runtime.db.transaction(system(Purpose.ADMIT), read_only=True) as session:
                found = backlog.kept(session, self._runtime.clock.now())
            answered = True
        except SQLAlchemyError as error:
            log.warning("admission_is_blind", error=type(error).__name__)
        finally:
            now = time.monotonic()
            late = now - began >= self._slow
            with self._lock:
                self._figure, self._read_at = found or self._figure, now
                self._well, self._silent = answered and not late, late and not answered

    def _lasts(self) -> bool:
        """Whether a reading is under way for too long."""
        return self._reading.lasts >= self._slow

    def _is_full(self, lane: Lane, tenant_id: str) -> bool:
        figure, settings = self._figure, self._runtime.settings
        if figure is None or figure.age > max(_STALE_SECONDS, _STALE_SECONDS * figure.took):
            return False
        pressure = figure.pressure.get(lane)
        alone = lane is Lane.TRANSACTIONAL
        limit = settings.max_backlog_transactional if alone else settings.max_backlog
        return pressure is not None and pressure.closes_to(tenant_id, limit)
