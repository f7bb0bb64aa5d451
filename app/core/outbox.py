"""Ring a worker's bell after commit. The row is the truth; a ring may be lost at any time."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from sqlalchemy import event
from sqlalchemy.orm import Session

from app.db import Transaction
from app.work import after_commit


class Job(StrEnum):
    """A piece of work for a worker. `entrypoints/actors.py` has one actor for each."""

    PLAN = "plan"
    DELIVER = "deliver"


class Lane(StrEnum):
    """Work of a lane waits only for work of its own lane. Each is a queue of the broker."""

    TRANSACTIONAL = "transactional"
    NORMAL = "normal"
    BULK = "bulk"


def ring_after_commit(session: Transaction, job: Job, lane: Lane) -> None:
    """When this transaction commits, tell the workers that `job` has something to do in `lane`."""
    session.info.setdefault("rings", set()).add((job, lane))


def tell_after_commit(session: Transaction, tell: Callable[[], None]) -> None:
    """When this transaction commits, count and log what it did. `tell` must not raise."""
    session.info.setdefault("told", []).append(tell)


@event.listens_for(Session, "after_commit")
def _ring(session: Session) -> None:
    # Also fires when a SAVEPOINT is released: only the outermost commit makes rows visible.
    if not session.in_nested_transaction():
        _follow_up(session)


@after_commit
def _follow_up(done: Transaction) -> None:
    for tell in done.info.pop("told", ()):
        tell()
    for job, lane in sorted(done.info.pop("rings", ())):
        if bell := done.info.get("bell"):
            bell.ring_soon(job, lane)


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info.pop("rings", None)
        session.info.pop("told", None)
