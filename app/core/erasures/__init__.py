"""Removing a person everywhere, and the receipt that says so.

It goes in short transactions, in a request as far as there is time and then in the sweeps, and goes on where it stopped
after a crash: who it is and how far it has come stand in the receipt, encrypted, until it is finished. Afterwards the
receipt knows the person only by a keyed hash, by which the operator can prove that this one was removed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.erasures.redaction import words_of
from app.core.erasures.steps import STEPS, Work, under_way
from app.core.runtime import Runtime
from app.db import tenant
from app.errors import NotFoundError
from app.ids import is_id
from app.models import Erasure, Recipient
from app.paging import Cursor, Page, page

log = structlog.get_logger()


def erase(runtime: Runtime, tenant_id: str, user_id: str, *, seconds: float) -> Erasure:
    """Remove a person, known or not. Returns the receipt; `finished_at` is None if `seconds` were not enough, or
    something is on the wire just now: then the sweeps go on. Repeated meanwhile, it goes on with the same receipt.
    """
    with runtime.db.transaction(tenant(tenant_id)) as session:
        receipt = _begin(session, runtime, tenant_id, user_id)
    proceed(runtime, tenant_id, receipt.id, time.monotonic() + seconds)
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        return get(session, tenant_id, receipt.id)


def proceed(runtime: Runtime, tenant_id: str, erasure_id: str, until: float) -> None:
    """Go on with an erasure up to `until` (of `time.monotonic()`), or until it has to wait."""
    more = True
    while more and time.monotonic() < until:
        with runtime.db.transaction(tenant(tenant_id)) as session:
            more, finished = _step(session, runtime, tenant_id, erasure_id)
        if finished:
            log.info("recipient_erased", erasure=erasure_id)
            _tidy(runtime)


def _tidy(runtime: Runtime) -> None:
    try:
        runtime.db.tidy()
    except (sqlite3.Error, SQLAlchemyError) as error:  # a full disk, a file in use: the rows are gone all the same
        log.warning("file_not_tidied", error=type(error).__name__)


def _begin(session: Session, runtime: Runtime, tenant_id: str, user_id: str) -> Erasure:
    known = select(Recipient).where(Recipient.tenant_id == tenant_id, Recipient.user_id == user_id).with_for_update()
    person = session.scalars(known).one_or_none()
    same = (Erasure.tenant_id == tenant_id, Erasure.user_hash == hash_of(runtime, tenant_id, user_id))
    open_one = session.scalars(select(Erasure).where(*same, Erasure.finished_at.is_(None))).first()
    if open_one:
        return open_one
    addresses = (person.email, person.phone) if person else ()
    progress = {"userId": user_id, "words": words_of(user_id, *addresses), "step": 0, "after": ""}
    made = Erasure(
        tenant_id=tenant_id,
        user_hash=hash_of(runtime, tenant_id, user_id),
        requested_at=runtime.clock.now(),
        counts={},
        progress=runtime.vault.seal(json.dumps(progress)),
    )
    session.add(made)
    session.flush()
    return made


def _step(session: Session, runtime: Runtime, tenant_id: str, erasure_id: str) -> tuple[bool, bool]:
    """Do one batch. Returns whether more can be done at once, and whether this was the end."""
    mine = (Erasure.tenant_id == tenant_id, Erasure.id == erasure_id, Erasure.finished_at.is_(None))
    receipt = session.scalars(select(Erasure).where(*mine).with_for_update(skip_locked=True)).one_or_none()
    if receipt is None or receipt.progress is None:  # finished, or in somebody else's hands
        return False, False
    progress = json.loads(runtime.vault.open(receipt.progress))
    work = Work(session, tenant_id, progress["userId"], progress["words"], runtime.clock.now())
    after = STEPS[progress["step"]](work, progress["after"])
    last = after is None and progress["step"] == len(STEPS) - 1
    waits = last and under_way(work)
    if after is None and not last:
        progress["step"] += 1
    progress["after"] = after or ""
    receipt.counts = dict(Counter(receipt.counts) + work.counts)
    finished = last and not waits
    receipt.finished_at = work.now if finished else None
    receipt.progress = None if finished else runtime.vault.seal(json.dumps(progress))
    return not last, finished


def hash_of(runtime: Runtime, tenant_id: str, user_id: str) -> str:
    """By what a receipt knows a person: nobody without SECRET_KEY can tell who it is, or try names out."""
    return runtime.vault.fingerprint("erasure", tenant_id, user_id)


def search(session: Session, runtime: Runtime, tenant_id: str, cursor: Cursor, *, user_id: str | None) -> Page[Erasure]:
    """A tenant's receipts, the newest first; with `user_id` those of one person."""
    query = select(Erasure).where(Erasure.tenant_id == tenant_id)
    if user_id is not None:
        query = query.where(Erasure.user_hash == hash_of(runtime, tenant_id, user_id))
    return page(session, query, Erasure.id, cursor)


def get(session: Session, tenant_id: str, erasure_id: str) -> Erasure:
    """One receipt. Raises NotFoundError."""
    found = None
    if is_id(erasure_id):
        query = select(Erasure).where(Erasure.tenant_id == tenant_id, Erasure.id == erasure_id.lower())
        found = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFoundError("There is no such receipt.")
    return found


def unfinished(session: Session) -> list[tuple[str, str]]:
    """(tenant id, erasure id) of what the sweeps have to go on with, the oldest first."""
    query = select(Erasure.tenant_id, Erasure.id).where(Erasure.finished_at.is_(None)).order_by(Erasure.id).limit(100)
    return [(row.tenant_id, row.id) for row in session.execute(query)]
