"""The Idempotency-Key of a request: done once, answered alike (core.idempotency has the law)."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

from flask import Request

from app.core import idempotency
from app.core.runtime import Runtime
from app.db import Transaction
from app.entrypoints.auth import Caller
from app.errors import InvalidError
from app.tenancy import tenant

_MOST = 255


def asked(caller: Caller, request: Request) -> idempotency.Asked | None:
    """What the request's Idempotency-Key stands for; None without one. Raises InvalidError for a bad key."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= _MOST or not key.isascii() or not key.isprintable():
        raise InvalidError({"Idempotency-Key": f"is not 1 to {_MOST} printable ASCII characters"})
    body_hash = hashlib.sha256(request.query_string + b"\0" + request.get_data(cache=True)).hexdigest()
    route = f"{request.method} {request.path}"
    return idempotency.Asked(caller.tenant_id, _id_of(caller), route, key, body_hash)


def _id_of(caller: Caller) -> str:
    """The API key's id; for a person an id made from theirs."""
    return caller.api_key_id or str(uuid.uuid5(uuid.UUID(caller.tenant_id), f"person:{caller.user_id}"))


def was_done(runtime: Runtime, request: idempotency.Asked | None) -> bool:
    """Whether the same request was answered before. Writes nothing."""
    if request is None:
        return False
    with runtime.db.work(tenant(request.tenant_id), read_only=True) as session:
        return idempotency.is_answered(session, runtime.clock, request)


def do(
    runtime: Runtime,
    caller: Caller,
    request: idempotency.Asked | None,
    work: Callable[..., Any],
    status: int,
    secrets: frozenset[str],
    in_transaction: bool,
    light: bool = False,
) -> tuple[Any, bool]:
    """Do `work` unless it was done before: (answer, whether it is a replay).

    `work` gets a session if `in_transaction`, and returns the answer as JSON. A fault gives the key back.
    """
    if request is None:
        return _work(runtime, caller, work, in_transaction, light, None), False
    scope = tenant(caller.tenant_id)
    with runtime.db.work(scope) as session:
        begun = idempotency.begin(session, runtime.clock, request, hours=runtime.settings.idempotency_hours)
    if isinstance(begun, idempotency.Replay):
        return begun.answer, True

    def store(session: Transaction, answer: dict[str, Any]) -> None:
        kept = {name: value for name, value in answer.items() if name not in secrets}
        idempotency.finish(session, begun, status=status, answer=kept)

    try:
        answer = _work(runtime, caller, work, in_transaction, light, store)
    except BaseException:
        with runtime.db.work(scope) as session:
            idempotency.release(session, begun)
        raise
    if not in_transaction:  # a fault from here on does not give the key back: the work is done
        with runtime.db.work(scope) as session:
            store(session, answer)
    return answer, False


def _work(
    runtime: Runtime,
    caller: Caller,
    work: Callable[..., Any],
    in_transaction: bool,
    light: bool,
    store: Callable[[Transaction, dict[str, Any]], None] | None,
) -> Any:
    if not in_transaction:
        return work()
    begin = runtime.db.work if light else runtime.db.transaction
    with begin(caller.scope) as session:
        answer = work(session)
        if store:
            store(session, answer)
    return answer
