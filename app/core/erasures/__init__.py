"""Removing a person everywhere, and the receipt that says so.

It goes in short transactions, in a request as far as there is time and then in the sweeps, and goes on where it stopped
after a crash: who it is and how far it has come stand in the receipt, encrypted, until it is finished. Afterwards the
receipt knows the person only by a keyed hash, by which the operator can prove that this one was removed.

Asked for again before it is finished, it begins anew with the same receipt: the person may have come back meanwhile.
What was looked through is not looked through again, unless there are new words to look for.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from app import rows
from app.core.erasures.redaction import words_of
from app.core.erasures.steps import STEPS, WALKS, under_way
from app.core.erasures.work import Work
from app.core.runtime import Runtime
from app.errors import NotFoundError
from app.ids import first_id_of, is_id, time_of
from app.models import Erasure, Recipient
from app.paging import Cursor, Page, page
from app.tenancy import tenant

log = structlog.get_logger()

_NAMES = tuple(STEPS)
_LATE = timedelta(minutes=10)  # so much older than it was written a row's id may be
_BEGIN_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(:person, 0))"


def erase(runtime: Runtime, tenant_id: str, user_id: str, *, seconds: float) -> Erasure:
    """Remove a person, known or not. Returns the receipt; `finished_at` is None if `seconds` were not enough, or
    something is on the wire just now: then the sweeps go on. Repeated meanwhile, it goes on with the same receipt.
    """
    with runtime.db.transaction(tenant(tenant_id)) as session:
        receipt = _begin(session, runtime, tenant_id, user_id)
    with suppress(OperationalError):  # a statement too long for a request: the sweeps have the time
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
    person_hash = hash_of(runtime, tenant_id, user_id)
    if rows.is_postgres(session):  # two requests at once share a receipt
        session.execute(text(_BEGIN_LOCK), {"person": person_hash})
    # Locked in the order in which a step locks them: the receipt, then the person.
    same = (Erasure.tenant_id == tenant_id, Erasure.user_hash == person_hash, Erasure.finished_at.is_(None))
    receipt = session.scalars(select(Erasure).where(*same).order_by(Erasure.id).with_for_update()).first()
    known = select(Recipient).where(Recipient.tenant_id == tenant_id, Recipient.user_id == user_id).with_for_update()
    person = session.scalars(known).one_or_none()
    words = words_of(user_id, *((person.email, person.phone) if person else ()))
    if receipt is None:
        now = runtime.clock.now()
        receipt = Erasure(tenant_id=tenant_id, user_hash=person_hash, requested_at=now, counts={})
        session.add(receipt)
    progress = _anew(json.loads(runtime.vault.open(receipt.progress)) if receipt.progress else {}, user_id, words)
    receipt.progress = runtime.vault.seal(json.dumps(progress))
    session.flush()
    return receipt


def _anew(progress: dict[str, Any], user_id: str, words: tuple[str, ...]) -> dict[str, Any]:
    """The progress of an erasure that begins, or begins again. `seen`: up to which id each walk has come."""
    wanted = list(dict.fromkeys([*progress.get("words", ()), *words]))
    known = progress.get("seen", {}) if wanted == progress.get("words") else {}
    seen: dict[str, str] = {walk: after for walk, after in known.items() if walk in WALKS}
    return {
        "userId": user_id,
        "words": wanted,
        "at": _NAMES[0],
        "after": "",
        "seen": {walk: first_id_of(time_of(after) - _LATE) for walk, after in seen.items()},
    }


def _step(session: Session, runtime: Runtime, tenant_id: str, erasure_id: str) -> tuple[bool, bool]:
    """Do one batch. Returns whether more can be done at once, and whether this was the end."""
    mine = (Erasure.tenant_id == tenant_id, Erasure.id == erasure_id, Erasure.finished_at.is_(None))
    receipt = session.scalars(select(Erasure).where(*mine).with_for_update(skip_locked=True)).one_or_none()
    if receipt is None or receipt.progress is None:  # finished, or in somebody else's hands
        return False, False
    progress = json.loads(runtime.vault.open(receipt.progress))
    if progress.get("at") not in STEPS:  # an older version's
        progress = _anew(progress, progress["userId"], ())
    work = Work(session, tenant_id, progress["userId"], progress["words"], runtime.clock.now())
    after = STEPS[progress["at"]](work, progress["after"])
    last = after is None and progress["at"] == _NAMES[-1]
    waits = last and under_way(work)
    _move_on(progress, after)
    receipt.counts = dict(Counter(receipt.counts) + work.counts)
    finished = last and not waits
    receipt.finished_at = work.now if finished else None
    receipt.progress = None if finished else runtime.vault.seal(json.dumps(progress))
    return not last, finished


def _move_on(progress: dict[str, Any], after: str | None) -> None:
    """Note where the step has come to; None: it is done, and the next one has its turn. The last one has it again."""
    if after is not None:
        progress["after"] = after
        if progress["at"] in WALKS:
            progress["seen"][progress["at"]] = after
        return
    progress["at"] = next(iter(_NAMES[_NAMES.index(progress["at"]) + 1 :]), _NAMES[-1])
    progress["after"] = progress["seen"].get(progress["at"], "")


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
    """(tenant id, erasure id) of some that the sweeps have to go on with.

    In no order, so that those that fail or take long keep none back.
    """
    query = (
        select(Erasure.tenant_id, Erasure.id).where(Erasure.finished_at.is_(None)).order_by(func.random()).limit(100)
    )
    return [(row.tenant_id, row.id) for row in session.execute(query)]
