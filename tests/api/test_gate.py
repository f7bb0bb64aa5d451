"""Who gets in, with what, how often; and what every answer carries."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import select

from app import create_app, make_runtime
from app.clock import FixedClock
from app.config import Settings
from app.core import keys
from app.core.runtime import Runtime
from app.crypto import Vault
from app.entrypoints.api.limits import RateLimiter
from app.models import SigningKey, Tenant
from app.tenancy import Purpose, system, tenant


@pytest.fixture(autouse=True)
def lasting_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows of the limits are cut by the clock; here no hour ends while a test counts."""
    monkeypatch.setattr(RateLimiter.__init__, "__defaults__", (lambda: 1_800.5,))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Every method and path under /api, with ids in the path's holes."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api"):
            path = re.sub(r"<[^>]+>", str(uuid.uuid4()), rule.rule)
            yield from ((method, path) for method in sorted(rule.methods - {"HEAD", "OPTIONS"}))


def other_tenant(runtime: Runtime) -> dict[str, str]:
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        made = Tenant(
            name="other", webhook_secret=runtime.vault.seal("x"), preference_defaults={}, created_at=runtime.clock.now()
        )
        session.add(made)
        session.flush()
        return bearer(keys.create_api_key(session, runtime.clock, made.id, name="other")[1])


@pytest.fixture
def signing_key(runtime: Runtime, tenant_id: str) -> SigningKey:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        return session.execute(select(SigningKey).where(SigningKey.tenant_id == tenant_id)).scalar_one()


@pytest.fixture
def ada(runtime: Runtime, signing_key: SigningKey) -> dict[str, str]:
    return bearer(keys.make_token(runtime.vault, signing_key, "ada", runtime.clock, 1))


def test_every_route_says_who_may_use_it(app: Any) -> None:
    access = app.extensions["tidings.doors"].access
    silent = [r.endpoint for r in app.url_map.iter_rules() if r.rule.startswith("/api") and r.endpoint not in access]
    assert not silent
    assert {found.resource for found in access.values()} <= set(keys.RESOURCES)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("tdg_live_" + "x" * 40),
        bearer("tdg_live_' OR 1=1"),
        bearer("a.b.c"),
        bearer("ü"),
        {"Authorization": "Basic Zm9v"},
        {"Authorization": "Basic " + "dGRn"},
        {"Authorization": "Negotiate abc"},
        {"Authorization": "Bearer"},
    ],
)
def test_no_route_opens_without_a_good_key(app: Any, client: Any, tenant_id: str, headers: dict[str, str]) -> None:
    for method, path in routes(app):
        answer = client.open(path, method=method, headers=headers, json={})
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/events/"])
def test_what_is_not_there_says_so_only_to_callers_we_know(client: Any, auth: dict[str, str], path: str) -> None:
    assert client.get(path).status_code == 401
    assert client.get(path, headers=auth).status_code == 404


def test_a_wrong_method_is_a_405_that_names_the_right_ones(client: Any, auth: dict[str, str]) -> None:
    answer = client.delete("/api/events", headers=auth)

    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


def test_a_key_is_also_taken_as_the_password_of_basic_auth(client: Any, api_key: str) -> None:
    assert client.get("/api/events", auth=("anybody", api_key)).status_code == 200


def test_unknown_and_revoked_keys_look_alike(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/api-keys", json={"name": "short-lived"}, headers=auth).json
    assert client.get("/api/events", headers=bearer(made["key"])).status_code == 200

    assert client.delete(f"/api/api-keys/{made['id']}", headers=auth).status_code == 204

    revoked = client.get("/api/events", headers=bearer(made["key"]))
    unknown = client.get("/api/events", headers=bearer("tdg_live_" + "z" * 43))
    assert revoked.status_code == unknown.status_code == 401
    assert revoked.json == unknown.json


def test_a_key_without_the_scope_is_refused_on_every_route(app: Any, client: Any, auth: dict[str, str]) -> None:
    access = app.extensions["tidings.doors"].access
    made = {
        scope: bearer(client.post("/api/api-keys", json={"name": "s", "scopes": [scope]}, headers=auth).json["key"])
        for scope in ("events:read", "keys:read")
    }
    for rule in app.url_map.iter_rules():
        found = access.get(rule.endpoint)
        if found is None:
            continue
        path = re.sub(r"<[^>]+>", str(uuid.uuid4()), rule.rule)
        other = made["keys:read" if found.resource == "events" else "events:read"]
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            answer = client.open(path, method=method, headers=other, json={})
            assert (answer.status_code, answer.json["code"]) == (403, "missing_scope"), (method, path)


def test_reading_is_not_writing(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/api-keys", json={"name": "r", "scopes": ["events:read"]}, headers=auth).json
    reader = bearer(made["key"])

    assert client.get("/api/events", headers=reader).status_code == 200
    assert client.post("/api/events", json={"eventType": "a.b"}, headers=reader).status_code == 403


def test_people_only_reach_what_is_theirs(app: Any, client: Any, ada: dict[str, str]) -> None:
    for method, path in routes(app):
        answer = client.open(path, method=method, headers=ada, json={})
        if not path.startswith("/api/notifications"):
            assert answer.status_code == 403, (method, path)
        else:
            assert answer.status_code not in (401, 403), (method, path)
            assert client.open(f"{path}?userId=eve", method=method, headers=ada, json={}).status_code in (403, 422)


def test_a_person_may_not_name_another(client: Any, ada: dict[str, str]) -> None:
    assert client.get("/api/notifications?userId=ada", headers=ada).status_code == 200
    assert client.get("/api/notifications?userId=eve", headers=ada).status_code == 403
    body = {"ids": [str(uuid.uuid4())]}
    assert client.post("/api/notifications/mark-as-read?userId=eve", json=body, headers=ada).status_code == 403


def test_a_service_has_to_name_the_person(client: Any, auth: dict[str, str]) -> None:
    answer = client.get("/api/notifications", headers=auth)

    assert (answer.status_code, answer.json["code"]) == (400, "user_id_required")
    assert "userId" in answer.json["detail"]


def test_one_tenant_does_not_see_another(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    other = other_tenant(runtime)
    event = client.post("/api/events", json={"eventType": "a.b"}, headers=auth).json["id"]
    sent = client.post("/api/send/in-app", json={"userId": "ada", "title": "t", "message": "m"}, headers=auth)
    delivery = sent.json["deliveries"][0]["id"]
    key = client.get("/api/api-keys", headers=auth).json["items"][0]["id"]
    signing = client.get("/api/signing-keys", headers=auth).json["items"][0]["id"]

    for method, path in (
        ("GET", f"/api/events/{event}"),
        ("GET", f"/api/deliveries/{delivery}"),
        ("POST", f"/api/deliveries/{delivery}/retry"),
        ("POST", f"/api/deliveries/{delivery}/cancel"),
        ("GET", f"/api/api-keys/{key}"),
        ("DELETE", f"/api/api-keys/{key}"),
        ("GET", f"/api/signing-keys/{signing}"),
        ("DELETE", f"/api/signing-keys/{signing}"),
    ):
        assert client.open(path, method=method, headers=other).status_code == 404, (method, path)
    assert client.get("/api/events", headers=other).json["items"] == []
    assert client.get(f"/api/deliveries?eventId={event}", headers=other).json["items"] == []
    assert client.get("/api/events", headers=auth).status_code == 200


TOKENS: dict[str, Callable[[dict[str, Any], dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]] = {
    "no kid": lambda claims, header: (claims, {}),
    "unknown kid": lambda claims, header: (claims, {"kid": str(uuid.uuid4())}),
    "kid is no id": lambda claims, header: (claims, {"kid": "../../etc/passwd"}),
    "no exp": lambda claims, header: ({"sub": "ada"}, header),
    "no sub": lambda claims, header: ({"exp": claims["exp"]}, header),
    "empty sub": lambda claims, header: (claims | {"sub": ""}, header),
    "long sub": lambda claims, header: (claims | {"sub": "x" * 256}, header),
    "sub with NUL": lambda claims, header: (claims | {"sub": "a\x00b"}, header),
    "expired": lambda claims, header: (claims | {"exp": claims["exp"] - 90_000}, header),
    "too far": lambda claims, header: (claims | {"exp": claims["exp"] + 90_000}, header),
    "exp is text": lambda claims, header: (claims | {"exp": "soon"}, header),
    "exp is huge": lambda claims, header: (claims | {"exp": 1e300}, header),
    "not yet": lambda claims, header: (claims | {"nbf": claims["exp"]}, header),
}


@pytest.mark.parametrize("wrong", sorted(TOKENS))
def test_a_token_that_is_not_right_is_refused(
    client: Any, runtime: Runtime, signing_key: SigningKey, wrong: str
) -> None:
    good = {"sub": "ada", "exp": int((runtime.clock.now() + timedelta(hours=1)).timestamp())}
    secret = runtime.vault.open(signing_key.material)
    right = jwt.encode(good, secret, "HS256", headers={"kid": signing_key.id})
    claims, header = TOKENS[wrong](good, {"kid": signing_key.id})

    answer = client.get("/api/notifications", headers=bearer(jwt.encode(claims, secret, "HS256", headers=header)))

    assert answer.status_code == 401
    assert client.get("/api/notifications", headers=bearer(right)).status_code == 200


def test_the_key_says_the_algorithm_whatever_the_header_claims(
    client: Any, runtime: Runtime, signing_key: SigningKey
) -> None:
    claims = {"sub": "ada", "exp": int((runtime.clock.now() + timedelta(hours=1)).timestamp())}
    secret = runtime.vault.open(signing_key.material)
    for algorithm, key in (("none", None), ("HS512", secret), ("HS256", "guess" * 8)):
        token = jwt.encode(claims, key, algorithm, headers={"kid": signing_key.id})
        assert client.get("/api/notifications", headers=bearer(token)).status_code == 401


def test_a_revoked_signing_key_ends_its_tokens(
    client: Any, auth: dict[str, str], ada: dict[str, str], signing_key: SigningKey
) -> None:
    assert client.get("/api/notifications", headers=ada).status_code == 200

    client.delete(f"/api/signing-keys/{signing_key.id}", headers=auth)

    assert client.get("/api/notifications", headers=ada).status_code == 401


def test_every_answer_carries_its_id_and_the_safe_headers(client: Any, auth: dict[str, str]) -> None:
    for path in ("/api/events", "/health/live", "/docs", "/nothing", "/openapi.json"):
        headers = client.get(path, headers=auth).headers
        assert len(headers["X-Request-Id"]) >= 8
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
    named = client.get("/api/events", headers=auth | {"X-Request-Id": "my-own-request-1"})
    strange = client.get("/api/events", headers=auth | {"X-Request-Id": "x y"})
    assert named.headers["X-Request-Id"] == "my-own-request-1"
    assert strange.headers["X-Request-Id"] != "x y"


def test_a_fault_of_ours_says_nothing_but_its_id(app: Any, auth: dict[str, str], tenant_id: str) -> None:
    def broken() -> None:
        raise RuntimeError("a secret detail")

    app.view_functions["events.list_events"] = broken

    answer = app.test_client().get("/api/events", headers=auth)

    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert answer.json["requestId"] == answer.headers["X-Request-Id"]
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text


class TestLimits:
    """With limits so low that a test can reach them."""

    @pytest.fixture
    def make_settings(self) -> Callable[..., Settings]:
        return lambda **values: Settings(
            **values, rate_limit_read="3 per hour", rate_limit_events="2 per hour", rate_limit_public="4 per hour"
        )

    def test_the_answer_says_how_things_stand_and_then_no_more(self, client: Any, auth: dict[str, str]) -> None:
        standings = [client.get("/api/events", headers=auth) for _ in range(4)]

        assert [a.status_code for a in standings] == [200, 200, 200, 429]
        assert [a.headers["RateLimit-Remaining"] for a in standings] == ["2", "1", "0", "0"]
        assert standings[0].headers["RateLimit-Limit"] == "3"
        last = standings[3]
        assert (last.content_type, last.json["code"]) == ("application/problem+json", "rate_limited")
        assert 1 <= int(last.headers["Retry-After"]) <= 3600
        assert last.headers["Retry-After"] == last.headers["RateLimit-Reset"]

    def test_groups_and_callers_are_counted_apart(self, client: Any, auth: dict[str, str], runtime: Runtime) -> None:
        for _ in range(4):
            client.get("/api/events", headers=auth)

        assert client.post("/api/events", json={"eventType": "a.b"}, headers=auth).status_code == 202
        assert client.get("/api/events", headers=other_tenant(runtime)).status_code == 200

    def test_an_address_that_fails_too_often_is_told_to_wait(self, client: Any, auth: dict[str, str]) -> None:
        wrong = [client.get("/api/events", headers=bearer("tdg_live_" + "y" * 40)) for _ in range(6)]

        assert [answer.status_code for answer in wrong] == [401, 401, 401, 401, 429, 429]
        assert int(wrong[5].headers["Retry-After"]) >= 1

    def test_nobody_is_locked_out_by_others_at_the_same_address(
        self, client: Any, auth: dict[str, str], ada: dict[str, str]
    ) -> None:
        for headers in ({}, bearer("tdg_live_" + "y" * 40), bearer("no.token.atall")):
            for _ in range(6):
                client.get("/api/events", headers=headers)

        assert client.get("/api/events", headers=auth).status_code == 200
        assert client.get("/api/notifications", headers=ada).status_code == 200
        assert client.get("/").status_code == 200

    def test_who_looks_at_pages_too_often_may_still_fail_to_log_in(self, client: Any) -> None:
        pages = [client.get("/").status_code for _ in range(6)]

        assert pages[4:] == [429, 429]
        assert client.get("/api/events").status_code == 401


def test_limits_go_on_without_redis(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "t.db"
    shutil.copy(sqlite_template, path)
    settings = Settings(
        database_url=f"sqlite:///{path}",
        redis_url="redis://127.0.0.1:1/0",
        secret_key="s" * 40,
        rate_limit_read="1 per hour",
        data_dir=tmp_path,
    )
    runtime = make_runtime(settings)
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        keys.bootstrap(session, runtime.vault, runtime.clock, api_key_secret="tdg_live_" + "k" * 40)
    client = create_app(runtime=runtime).test_client()

    answers = [client.get("/api/events", headers=bearer("tdg_live_" + "k" * 40)).status_code for _ in range(2)]

    assert answers == [200, 429]
    runtime.db.close()


def test_a_key_ends_when_it_says(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "t.db"
    shutil.copy(sqlite_template, path)
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    settings = Settings(database_url=f"sqlite:///{path}", secret_key="s" * 40, data_dir=tmp_path)
    runtime = make_runtime(settings, clock)
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        owner, _ = keys.bootstrap(session, Vault("s" * 40), clock, api_key_secret="tdg_live_" + "k" * 40)
        ends = clock.now() + timedelta(seconds=2)
        _, plain = keys.create_api_key(session, clock, owner.id, name="brief", expires_at=ends)
    client = create_app(runtime=runtime).test_client()
    assert client.get("/api/events", headers=bearer(plain)).status_code == 200

    clock.advance(seconds=2)

    assert client.get("/api/events", headers=bearer(plain)).status_code == 401
    runtime.db.close()
