"""A request with an Idempotency-Key happens once, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.core import idempotency
from app.core.runtime import Runtime
from app.errors import ConflictError
from app.ids import new_id
from app.models import ApiKey, Event, IdempotencyKey
from app.tenancy import Purpose, system, tenant

KEY = {"Idempotency-Key": "order-1001"}
BODY = {"eventType": "order.created", "data": {"n": 1}}


def count(runtime: Runtime, model: Any) -> int:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        return session.execute(select(func.count()).select_from(model)).scalar_one()


def forget_leases(runtime: Runtime) -> None:
    """As if the minute of every lease were over."""
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE idempotency_keys SET lease_until = created_at"))


def asked(tenant_id: str, body_hash: str = "h") -> idempotency.Asked:
    return idempotency.Asked(tenant_id, "0193d0f0-0000-7000-8000-000000000000", "POST /x", "k", body_hash)


def test_the_same_request_is_answered_alike_and_done_once(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    first = client.post("/api/events", json=BODY, headers=auth | KEY)
    second = client.post("/api/events", json=BODY, headers=auth | KEY)

    assert first.status_code == second.status_code == 202
    assert first.json == second.json
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert count(runtime, Event) == 1


def test_another_body_is_refused_and_another_key_route_or_caller_is_another_request(
    client: Any, auth: dict[str, str], runtime: Runtime
) -> None:
    client.post("/api/events", json=BODY, headers=auth | KEY)
    made = client.post("/api/api-keys", json={"name": "other"}, headers=auth).json["key"]

    reused = client.post("/api/events", json=BODY | {"userId": "ada"}, headers=auth | KEY)
    other_key = client.post("/api/events", json=BODY, headers=auth | {"Idempotency-Key": "order-1002"})
    other_route = client.post("/api/events/batch", json={"events": [BODY]}, headers=auth | KEY)
    other_caller = client.post("/api/events", json=BODY, headers={"Authorization": f"Bearer {made}"} | KEY)

    assert (reused.status_code, reused.json["code"]) == (422, "idempotency_key_reused")
    assert [a.status_code for a in (other_key, other_route, other_caller)] == [202, 202, 202]
    assert not any("Idempotency-Replayed" in a.headers for a in (other_key, other_route, other_caller))
    assert count(runtime, Event) == 4


def test_a_refused_request_gives_its_key_back(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    refused = client.post("/api/events/batch", json={"events": [{}]}, headers=auth | KEY)
    accepted = client.post("/api/events/batch", json={"events": [BODY]}, headers=auth | KEY)

    assert (refused.status_code, accepted.status_code) == (422, 202)
    assert count(runtime, Event) == 1


def test_secrets_are_left_out_of_the_stored_answer(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    first = client.post("/api/api-keys", json={"name": "once"}, headers=auth | KEY)
    second = client.post("/api/api-keys", json={"name": "once"}, headers=auth | KEY)

    assert first.status_code == second.status_code == 201
    assert first.json["key"].startswith("tdg_live_")
    assert second.json == {name: value for name, value in first.json.items() if name != "key"}
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        stored = session.execute(text("SELECT CAST(answer AS text) FROM idempotency_keys")).scalars().all()
    assert stored
    assert first.json["key"] not in "".join(stored)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ünï"])
def test_a_bad_key_is_refused(client: Any, auth: dict[str, str], runtime: Runtime, key: str) -> None:
    answer = client.post("/api/events", json=BODY, headers=auth | {"Idempotency-Key": key})

    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "Idempotency-Key"
    assert count(runtime, Event) == 0


def test_twenty_at_once_are_one(app: Any, auth: dict[str, str], runtime: Runtime) -> None:
    def post(_: int) -> Any:
        return app.test_client().post("/api/events", json=BODY, headers=auth | KEY)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))

    assert {a.status_code for a in answers} <= {202, 409}
    done = [a for a in answers if a.status_code == 202]
    assert len({a.json["id"] for a in done}) == 1
    assert sum("Idempotency-Replayed" not in a.headers for a in done) == 1
    assert all(int(a.headers["Retry-After"]) >= 1 for a in answers if a.status_code == 409)
    assert count(runtime, Event) == 1


def test_one_in_flight_is_a_conflict_that_ends_with_its_lease(
    client: Any, auth: dict[str, str], runtime: Runtime, tenant_id: str
) -> None:
    client.post("/api/events", json=BODY, headers=auth | KEY)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:  # as if its process had died in between
        session.execute(text("UPDATE idempotency_keys SET status = NULL, answer = NULL"))

    waiting = client.post("/api/events", json=BODY, headers=auth | KEY)
    forget_leases(runtime)
    taken_over = client.post("/api/events", json=BODY, headers=auth | KEY)

    assert (waiting.status_code, waiting.json["code"]) == (409, "idempotency_in_progress")
    assert waiting.headers["Retry-After"] == "1"  # not the whole lease: it may be done any moment
    assert taken_over.status_code == 202
    assert "Idempotency-Replayed" not in taken_over.headers


def test_who_lost_the_lease_cannot_commit(runtime: Runtime, tenant_id: str) -> None:
    scope = tenant(tenant_id)
    with runtime.db.transaction(scope) as session:
        slow = idempotency.begin(session, runtime.clock, asked(tenant_id))
    forget_leases(runtime)
    with runtime.db.transaction(scope) as session:
        quick = idempotency.begin(session, runtime.clock, asked(tenant_id))
    assert isinstance(slow, idempotency.Lease)
    assert isinstance(quick, idempotency.Lease)

    with pytest.raises(ConflictError), runtime.db.transaction(scope) as session:
        now = runtime.clock.now()
        about = {"name": "x", "kind": "live", "hint": "x", "key_hash": "x", "scopes": ["*"], "created_at": now}
        session.add(ApiKey(id=new_id(), tenant_id=tenant_id, **about))
        session.flush()
        idempotency.finish(session, slow, status=201, answer={"who": "slow"})

    with runtime.db.transaction(scope) as session:
        idempotency.release(session, slow)
        idempotency.finish(session, quick, status=201, answer={"who": "quick"})
    with runtime.db.transaction(scope) as session:
        assert idempotency.begin(session, runtime.clock, asked(tenant_id)) == idempotency.Replay(201, {"who": "quick"})
        assert session.execute(select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.name == "x")).all() == []


def test_an_old_answer_is_forgotten(runtime: Runtime, tenant_id: str) -> None:
    scope = tenant(tenant_id)
    with runtime.db.transaction(scope) as session:
        lease = idempotency.begin(session, runtime.clock, asked(tenant_id))
        assert isinstance(lease, idempotency.Lease)
        idempotency.finish(session, lease, status=201, answer={})
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE idempotency_keys SET expires_at = created_at"))

    with runtime.db.transaction(scope) as session:
        assert isinstance(idempotency.begin(session, runtime.clock, asked(tenant_id, "other")), idempotency.Lease)
    assert count(runtime, IdempotencyKey) == 1


def test_a_person_may_use_a_key_too(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    body = {"channels": ["in_app"]}
    answers = [
        client.post(f"/api/notifications/test?userId={user}", json=body, headers=auth | KEY)
        for user in ("ada", "ada", "bob")
    ]

    assert [a.status_code for a in answers] == [202, 202, 422]
    assert answers[0].json == answers[1].json
