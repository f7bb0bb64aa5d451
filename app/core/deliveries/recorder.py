"""Results written as they come, whatever the database is doing meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.deliveries import alarms, outcome
from app.core.deliveries.outcome import Tried
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.tenancy import tenant
from providers.contract import Accepted

log = structlog.get_logger()

FLUSH_ROWS, FLUSH_SECONDS = 100, 0.05  # so that a kill doubles no more than 50 ms' worth
_LONGEST_PAUSE = 0.5
_MAY_PASS = (OperationalError, InterfaceError, PoolTimeoutError)  # the database's state, not the result's fault


class Recorder:
    """Writes results as they come: every 50 ms or 100 rows, also while a provider keeps us waiting.

    Not `threaded`, it writes them together when it is closed. `until` is the `time.monotonic()` up to which a database
    that is away is tried again. It may lie behind the lease's end: while the database is away nobody else can claim,
    and what is written before somebody does is not sent a second time.
    """

    def __init__(self, runtime: Runtime, tenant_id: str, *, threaded: bool, until: float) -> None:
        self._runtime = runtime
        self._tenant_id = tenant_id
        self._until = until
        self._results: list[Tried] = []
        self._lock = threading.Lock()
        self._full = threading.Event()
        self._closing = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="recorder") if threaded else None
        if self._thread:
            self._thread.start()

    def add(self, tried: Tried) -> None:
        """Have a result written soon. The writer is woken for a batch, not for each."""
        with self._lock:
            self._results.append(tried)
            if len(self._results) >= FLUSH_ROWS:
                self._full.set()

    def close(self) -> None:
        """Write what is left. Raises what kept results from being written."""
        self._closing = True
        self._full.set()
        if self._thread:
            self._thread.join()
        else:
            self._flush()
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        while not self._closing:
            self._full.wait(FLUSH_SECONDS)
            self._full.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            batch, self._results = self._results, []
        try:
            if batch:
                self._write(batch)
        except Exception as error:  # told to the caller in close()
            self._failure = error

    def _write(self, batch: Sequence[Tried]) -> None:
        pause = 0.1
        while True:
            try:
                soonest = self._record(batch)
                break
            except _MAY_PASS as error:
                if time.monotonic() + pause > self._until:
                    raise
                log.warning("record_retried", error=type(error).__name__, rows=len(batch))
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except SQLAlchemyError as error:
                log.exception("record_refused", rows=len(batch))
                self._write_singly(batch, error)
                return
        if soonest is not None:
            alarms.ring_in(self._runtime, Lane(batch[0].claim.lane), soonest)

    def _write_singly(self, batch: Sequence[Tried], error: SQLAlchemyError) -> None:
        """One result that the database refuses keeps back no other; its own is written without the details."""
        if len(batch) == 1:
            bare = _without_detail(batch[0])
            if bare == batch[0]:
                raise error
            self._write([bare])
            return
        failure: Exception | None = None
        for item in batch:
            try:
                self._write([item])
            except SQLAlchemyError as fault:
                failure = failure or fault
        if failure:
            raise failure

    def _record(self, batch: Sequence[Tried]) -> float | None:
        with self._runtime.db.work(tenant(self._tenant_id)) as session:
            return outcome.record(session, self._runtime, self._tenant_id, batch, random.Random())


def _without_detail(tried: Tried) -> Tried:
    result = tried.result
    if isinstance(result, Accepted):
        return replace(tried, result=Accepted(status=result.status))
    if result is not None and getattr(result, "detail", None):
        result.detail = {}  # type: ignore[attr-defined]
        return replace(tried, url="")
    return tried
