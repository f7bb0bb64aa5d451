"""A request with an Idempotency-Key happens once, however often it is sent.

The key's row is committed first, in a short transaction of its own, with a lease that frees it if the process
dies. The answer is stored in the transaction of the work itself, fenced by the lease: either both are there or
neither. Who lost the lease in between cannot commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from app.clock import Clock
from app.db import Transaction
from app.errors import ConflictError, RequestError
from app.ids import new_id
from app.models import IdempotencyKey
from app.rows import insert

LEASE_SECONDS = 60
ASK_AGAIN_SECONDS = 1  # most requests are done long before their lease ends


class KeyReusedError(RequestError):
    """The key came before, with another body."""

    status = 422
    code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for what: the same four name the same request. `body_hash` tells whether it is the same indeed."""

    tenant_id: str
    caller_id: str
    route: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The request is ours to do, until the lease ends."""

    tenant_id: str
    id: str
    until: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """The request was done before, and this was answered (without secrets)."""

    status: int
    answer: Any


def begin(session: Transaction, clock: Clock, asked: Asked, *, hours: int = 24) -> Lease | Replay:
    """Take the key, or learn what was answered. The caller commits at once, before the work.

    Raises KeyReusedError (another body), or ConflictError while the first request is still in flight.
    """
    now = clock.now()
    lease = Lease(asked.tenant_id, new_id(), now + timedelta(seconds=LEASE_SECONDS))
    row = {
        "id": lease.id,
        "tenant_id": asked.tenant_id,
        "api_key_id": asked.caller_id,
        "route": asked.route,
        "key": asked.key,
        "body_hash": asked.body_hash,
        "lease_until": lease.until,
        "created_at": now,
        "expires_at": now + timedelta(hours=hours),
    }
    if insert(session, IdempotencyKey, [row]):
        return lease
    found = _same(session, asked)
    if found is None:  # it was given back this very moment
        raise _in_flight()
    if found.expires_at > now:
        if found.body_hash != asked.body_hash:
            raise KeyReusedError("This Idempotency-Key came before, with another body.")
        if found.status is not None:
            return Replay(found.status, found.answer)
        if found.lease_until > now:
            raise _in_flight()
    return _take_over(session, found, row)


def is_answered(session: Transaction, clock: Clock, asked: Asked) -> bool:
    """Whether `begin` would tell what was answered, or that the key came with another body."""
    found = _same(session, asked)
    return found is not None and found.status is not None and found.expires_at > clock.now()


def _same(session: Transaction, asked: Asked) -> Any:
    same = {"tenant": asked.tenant_id, "caller": asked.caller_id, "route": asked.route, "key": asked.key}
    return session.execute(_SAME, same).one_or_none()


def _take_over(session: Transaction, found: Any, row: dict[str, Any]) -> Lease:
    """The first one died, or its answer is too old: ours, unless somebody else was quicker."""
    fresh = {name: row[name] for name in ("body_hash", "lease_until", "created_at", "expires_at")}
    seen = {"tenant": row["tenant_id"], "own_id": found.id}
    seen |= {"was_until": found.lease_until, "was_over": found.expires_at}
    taken = session.execute(_TAKE_OVER, {f"new_{name}": value for name, value in fresh.items()} | seen).all()
    if not taken:
        raise _in_flight()
    return Lease(row["tenant_id"], found.id, row["lease_until"])


def finish(session: Transaction, lease: Lease, *, status: int, answer: Any) -> None:
    """Store the answer, in the transaction of the work. Raises ConflictError if the lease was lost: roll back."""
    done = session.execute(_FINISH, _held(lease) | {"new_status": status, "new_answer": answer}).all()
    if not done:
        raise _in_flight()


def release(session: Transaction, lease: Lease) -> None:
    """Nothing was done: the key may be used again."""
    session.execute(_RELEASE, _held(lease))


def _held(lease: Lease) -> dict[str, Any]:
    return {"tenant": lease.tenant_id, "own_id": lease.id, "until": lease.until}


_KEYS: Any = IdempotencyKey.__table__
_OWN = _KEYS.c.tenant_id == bindparam("tenant")
_HELD = (
    _OWN,
    _KEYS.c.id == bindparam("own_id"),
    _KEYS.c.lease_until == bindparam("until"),
    _KEYS.c.status.is_(None),
)
_SAME = select(
    _KEYS.c.id, _KEYS.c.body_hash, _KEYS.c.lease_until, _KEYS.c.expires_at, _KEYS.c.status, _KEYS.c.answer
).where(
    _OWN,
    _KEYS.c.api_key_id == bindparam("caller"),
    _KEYS.c.route == bindparam("route"),
    _KEYS.c.key == bindparam("key"),
)
_TAKE_OVER = (
    update(_KEYS)
    .where(
        _OWN,
        _KEYS.c.id == bindparam("own_id"),
        _KEYS.c.lease_until == bindparam("was_until"),
        _KEYS.c.expires_at == bindparam("was_over"),
    )
    .values(
        status=None,
        answer=None,
        body_hash=bindparam("new_body_hash"),
        lease_until=bindparam("new_lease_until"),
        created_at=bindparam("new_created_at"),
        expires_at=bindparam("new_expires_at"),
    )
    .returning(_KEYS.c.id)
)
_FINISH = (
    update(_KEYS)
    .where(*_HELD)
    .values(status=bindparam("new_status"), answer=bindparam("new_answer"))
    .returning(_KEYS.c.id)
)
_RELEASE = delete(_KEYS).where(*_HELD)


def _in_flight() -> ConflictError:
    return ConflictError(
        "The first request with this Idempotency-Key is still in flight.",
        code="idempotency_in_progress",
        retry_after=ASK_AGAIN_SECONDS,
    )
