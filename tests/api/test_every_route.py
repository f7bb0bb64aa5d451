"""Every route with every kind of wrong caller: 401, 403 or 404, never data, and nothing changes.

`every_route.CALLS` says how each route is called well; a route that is not there fails the first test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import pytest
from sqlalchemy import select, update

from app import create_app
from app.config import Settings
from app.core import keys
from app.core.runtime import Runtime
from app.models import ApiKey, Base, SigningKey, Tenant
from app.tenancy import Purpose, system, tenant
from tests.api.every_route import CALLS, CREATES_FOR_ANYBODY, MARK, PERSON, House, build, routes
from tests.servers.http import HttpReceiver

TABLES = sorted((table for table in Base.metadata.sorted_tables), key=lambda table: table.name)
OPEN = {
    "/",
    "/assets/<path:filename>",
    "/callbacks/twilio/status",
    "/docs",
    "/docs/<name>",
    "/docs/start.js",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
}
"""What anybody may call, beside the catcher's pages (/dev), which are there when embedded only."""


@dataclass(frozen=True)
class World:
    """A tenant with one of everything, and how it all stood when the wrong callers came."""

    house: House
    before: dict[str, dict[str, Any]]
    ids: frozenset[str]


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    """With all channels set up, at addresses where nobody is; and without limits in the walk's way."""
    many = "100000 per minute"
    return lambda **values: Settings(
        **values,
        public_url="https://tidings.example.com",
        email_host="127.0.0.1",
        email_port=9,
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token="token",
        twilio_phone_number="+15005550006",
        twilio_api_url="http://127.0.0.1:9",
        rate_limit_public=many,
        rate_limit_write=many,
        rate_limit_read=many,
        rate_limit_send=many,
    )


@pytest.fixture
def world(runtime: Runtime, app: Any, auth: dict[str, str], receiver: HttpReceiver) -> World:
    house = build(app.test_client(), auth, receiver.url(""))
    receiver.ledger.clear()
    before = rows(runtime)
    ids = frozenset(row["id"] for table in before.values() for row in table.values() if row.get("id"))
    return World(house, before, ids)


def rows(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """Everything in the database: {table: {key: row}}, but for when API keys were last used."""
    found: dict[str, dict[str, Any]] = {}
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        for table in TABLES:
            all_rows = [dict(row) for row in session.execute(select(table)).mappings()]
            for row in all_rows:
                row.pop("last_used_at", None)
            key = [column.name for column in table.primary_key]
            found[table.name] = {":".join(str(row[name]) for name in key): row for row in all_rows}
    return found


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signer(runtime: Runtime, tenant_id: str) -> SigningKey:
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        query = select(SigningKey).where(SigningKey.tenant_id == tenant_id).order_by(SigningKey.id)
        return session.execute(query.limit(1)).scalar_one()


def key_with(runtime: Runtime, tenant_id: str, **fields: Any) -> dict[str, str]:
    """A key of this tenant, as headers."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        return bearer(keys.create_api_key(session, runtime.clock, tenant_id, name="walk", **fields)[1])


def token_of(
    runtime: Runtime, key: SigningKey, user_id: str, *, hours: float = 1.0, secret: str = ""
) -> dict[str, str]:
    """A person's token, as headers."""
    ends = runtime.clock.now() + timedelta(hours=hours)
    claims = {"sub": user_id, "exp": int(ends.timestamp())}
    secret = secret or runtime.vault.open(key.material)
    return bearer(jwt.encode(claims, secret, "HS256", headers={"kid": key.id}))


def changed_key(runtime: Runtime, tenant_id: str, **values: Any) -> dict[str, str]:
    """A key of this tenant that was good once."""
    headers = key_with(runtime, tenant_id)
    digest = select(ApiKey.id).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id.desc()).limit(1)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        newest = session.execute(digest).scalar_one()
        mine = update(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == newest)
        session.execute(mine.values(**values))
    return headers


def another_tenant(runtime: Runtime) -> str:
    """A second tenant with a signing key of its own; returns its id."""
    now = runtime.clock.now()
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        sealed = runtime.vault.seal("x")
        made = Tenant(name="other", webhook_secret=sealed, preference_defaults={}, created_at=now)
        session.add(made)
        session.flush()
        keys.create_signing_key(session, runtime.vault, runtime.clock, made.id, name="other", algorithm="HS256")
        return made.id


NOBODY: dict[str, Callable[[Runtime, str], dict[str, str]]] = {
    "no key": lambda _runtime, _tenant_id: {},
    "a key that nobody has": lambda _runtime, _tenant_id: bearer("tdg_live_" + "g" * 43),
    "no key at all": lambda _runtime, _tenant_id: bearer("garbage"),
    "a revoked key": lambda runtime, owner: changed_key(runtime, owner, revoked_at=runtime.clock.now()),
    "an expired key": lambda runtime, owner: changed_key(runtime, owner, expires_at=runtime.clock.now()),
    "an expired token": lambda runtime, owner: token_of(runtime, signer(runtime, owner), PERSON, hours=-1),
    "a forged token": lambda runtime, owner: token_of(runtime, signer(runtime, owner), PERSON, secret="guess" * 8),
}


def walk(app: Any, world: World, headers: dict[str, str] | Callable[[str], dict[str, str]], query: str = "") -> Any:
    """Call every route as this caller: (route, call, answer). Nothing of the tenant's may be in any answer."""
    client = app.test_client()
    for route in sorted(CALLS, key=CREATES_FOR_ANYBODY.__contains__):
        call = CALLS[route]
        method, rule = route.split(" ")
        path, body = world.house.path(rule), world.house.body(call)
        asked = query if call.personal else call.query
        mine = headers(route) if callable(headers) else headers
        answer = client.open(f"{path}{asked}", method=method, json=body, headers=mine | {"Idempotency-Key": MARK})
        shown = answer.get_data(as_text=True)
        assert MARK.lower() not in shown.lower(), (route, shown)
        said = f"{path} {json.dumps(body)}"
        assert not [found for found in world.ids if found in shown and found not in said], (route, shown)
        assert answer.status_code < 500, (route, shown)
        yield route, call, answer


def untouched(runtime: Runtime, world: World, receiver: HttpReceiver) -> None:
    """All that was there is there, as it was; and nobody was called."""
    after = rows(runtime)
    for table, found in world.before.items():
        assert {key: after[table].get(key) for key in found} == found, table
    assert receiver.ledger == []


def unchanged(runtime: Runtime, before: dict[str, dict[str, Any]]) -> None:
    """Not a row has come, gone or changed."""
    assert rows(runtime) == before


def test_every_route_can_be_called(app: Any) -> None:
    assert set(routes(app)) == set(CALLS), "give a new route its line in tests/api/every_route.py"


def test_beside_the_api_only_these_are_open(app: Any, settings: Settings) -> None:
    beside = {rule.rule for rule in app.url_map.iter_rules() if not rule.rule.startswith("/api/")}
    assert {rule for rule in beside if not rule.startswith("/dev/")} == OPEN


def test_the_calls_are_good_when_the_right_one_calls(
    app: Any, auth: dict[str, str], world: World, settings: Settings
) -> None:
    # given the tenant's own key, things are deleted after all else is done with them
    client = app.test_client()
    for route in sorted(CALLS, key=lambda route: route.startswith("DELETE")):
        method, rule = route.split(" ")
        call = CALLS[route]
        query = f"?userId={PERSON}" if call.personal else call.query
        path, body = f"{world.house.path(rule)}{query}", world.house.body(call)
        # then every call of the table is one that works
        answer = client.open(path, method=method, json=body, headers=auth)
        assert 200 <= answer.status_code < 300, (route, answer.get_data(as_text=True))


@pytest.mark.parametrize("who", NOBODY)
def test_nobody_gets_in(
    app: Any, runtime: Runtime, world: World, tenant_id: str, receiver: HttpReceiver, who: str
) -> None:
    headers = NOBODY[who](runtime, tenant_id)
    before = rows(runtime)
    for route, _, answer in walk(app, world, headers, f"?userId={PERSON}"):
        assert answer.status_code == 401, route
        assert answer.content_type == "application/problem+json"
    unchanged(runtime, before)
    untouched(runtime, world, receiver)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_no_other_method_goes_round_the_gate(app: Any, runtime: Runtime, world: World, method: str) -> None:
    client = app.test_client()
    for route in CALLS:
        answer = client.open(world.house.path(route.split(" ")[1]), method=method)
        assert answer.status_code == 401, route


def test_a_key_without_the_scope_is_refused(
    app: Any, runtime: Runtime, world: World, tenant_id: str, receiver: HttpReceiver
) -> None:
    # given for each route a key with every scope but the one that it needs
    access = app.extensions["tidings.doors"].access
    needed = {
        f"{method} {rule.rule}": f"{access[rule.endpoint].resource}:{access[rule.endpoint].action}"
        for rule in app.url_map.iter_rules()
        if rule.endpoint in access
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    every = sorted(keys.SCOPES - {"*"})
    without = {
        scope: key_with(runtime, tenant_id, scopes=[other for other in every if other != scope])
        for scope in set(needed.values())
    }
    before = rows(runtime)
    for route, _, answer in walk(app, world, lambda route: without[needed[route]], f"?userId={PERSON}"):
        assert (answer.status_code, answer.json["code"]) == (403, "missing_scope"), route
    unchanged(runtime, before)
    untouched(runtime, world, receiver)


def test_another_persons_token_opens_nothing_of_this_persons(
    app: Any, runtime: Runtime, world: World, tenant_id: str, receiver: HttpReceiver
) -> None:
    headers = token_of(runtime, signer(runtime, tenant_id), "eve")
    before = rows(runtime)
    for route, _, answer in walk(app, world, headers, f"?userId={PERSON}"):
        assert answer.status_code == 403, route
    unchanged(runtime, before)
    untouched(runtime, world, receiver)


def test_a_person_who_names_another_ones_things_gets_their_own_at_most(
    app: Any, runtime: Runtime, world: World, tenant_id: str, receiver: HttpReceiver
) -> None:
    # given a person who does not say whose, but gives the other one's ids
    headers = token_of(runtime, signer(runtime, tenant_id), "eve")
    for route, call, answer in walk(app, world, headers):
        assert answer.status_code in ((200, 202) if call.personal else (403,)), route
    untouched(runtime, world, receiver)


@pytest.mark.parametrize("query", ["", f"?userId={PERSON}"])
def test_the_same_person_of_another_tenant_gets_nothing(
    app: Any, runtime: Runtime, world: World, receiver: HttpReceiver, query: str
) -> None:
    headers = token_of(runtime, signer(runtime, another_tenant(runtime)), PERSON)
    for route, call, answer in walk(app, world, headers, query):
        assert answer.status_code in ((200, 202) if call.personal else (403,)), route
    untouched(runtime, world, receiver)


def test_another_tenants_key_finds_nothing(app: Any, runtime: Runtime, world: World, receiver: HttpReceiver) -> None:
    headers = key_with(runtime, another_tenant(runtime))
    for route, call, answer in walk(app, world, headers, f"?userId={PERSON}"):
        if "<" in route and route not in CREATES_FOR_ANYBODY:
            assert answer.status_code == 404, route
        elif route.startswith("GET") and not call.personal and "items" in answer.json:
            theirs = json.dumps(answer.json["items"])
            assert not any(found in theirs for found in world.ids), route
        elif route.endswith("/export"):
            assert not any(found in answer.get_data(as_text=True) for found in world.ids), route
        assert "Idempotency-Replayed" not in answer.headers, route
    untouched(runtime, world, receiver)


def test_what_is_open_shows_nothing_of_anybody(app: Any, world: World) -> None:
    client = app.test_client()
    for rule in sorted(OPEN):
        path = rule.replace("<path:filename>", "site.css").replace("<name>", "swagger-ui.css")
        for method in ("GET", "POST", "PUT", "DELETE"):
            shown = client.open(path, method=method).get_data(as_text=True)
            assert MARK.lower() not in shown.lower(), rule
            assert not any(found in shown for found in world.ids), rule


def test_a_catcher_is_only_in_the_embedded_shape(runtime: Runtime, settings: Settings) -> None:
    there = [rule.rule for rule in create_app(runtime=runtime).url_map.iter_rules() if rule.rule.startswith("/dev/")]
    client = create_app(runtime=runtime).test_client()
    shown = {rule: client.get(rule.replace("<caught_id>", "x")).status_code for rule in there}
    assert set(shown.values()) <= {404} or settings.catches
