"""Keys: made once, found by hash, ended; tokens for people; the first ones of an installation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import func, select

from app.core import keys
from app.core.runtime import Runtime
from app.errors import ConflictError, InvalidError, UnauthorizedError
from app.models import ApiKey, Rule, SigningKey, Tenant
from app.tenancy import Purpose, system, tenant


def count(runtime: Runtime, model: Any) -> int:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        return session.execute(select(func.count()).select_from(model)).scalar_one()


def pem(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_new_installation_gets_its_first_things_once(runtime: Runtime) -> None:
    made = []
    for _ in range(2):
        with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
            made.append(keys.bootstrap(session, runtime.vault, runtime.clock, api_key_secret=None))

    assert made[0][0].id == made[1][0].id
    assert made[0][1].startswith("tdg_live_")
    assert made[1][1] is None
    assert [count(runtime, model) for model in (Tenant, ApiKey, SigningKey)] == [1, 1, 1]
    assert count(runtime, Rule) >= 3


def test_a_known_first_key_is_made_and_stays_revoked(runtime: Runtime) -> None:
    secret = "tdg_test_" + "b" * 40

    def start() -> tuple[Tenant, str | None]:
        with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
            return keys.bootstrap(session, runtime.vault, runtime.clock, api_key_secret=secret)

    owner, shown = start()
    assert shown == secret
    with runtime.db.transaction(tenant(owner.id)) as session:
        (key,) = session.execute(select(ApiKey).where(ApiKey.tenant_id == owner.id)).scalars()
        assert key.kind == "test"
        keys.revoke_api_key(session, runtime.clock, owner.id, key.id)

    assert start()[1] is None
    with runtime.db.transaction(system(Purpose.AUTHENTICATE)) as session:
        assert keys.find_api_key(session, runtime.clock, secret) is None


def test_only_the_hash_of_a_key_is_kept(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        made, plain = keys.create_api_key(session, runtime.clock, tenant_id, name="x", scopes=["events:write"])
        assert plain not in str(vars(made))
        assert made.hint.startswith("tdg_live_")
    with runtime.db.transaction(system(Purpose.AUTHENTICATE)) as session:
        found = keys.find_api_key(session, runtime.clock, plain)
        assert found is not None
        assert (found.id, found.scopes) == (made.id, ["events:write"])
        for wrong in ("", plain[:-1], plain + "x", plain.upper(), plain + "\n", "tdg_live_" + "é" * 40):
            assert keys.find_api_key(session, runtime.clock, wrong) is None


@pytest.mark.parametrize("scopes", [[], ["everything"], ["events:delete"], ["*", "nothing:read"]])
def test_unknown_scopes_are_refused(runtime: Runtime, tenant_id: str, scopes: list[str]) -> None:
    with pytest.raises(InvalidError) as refused, runtime.db.transaction(tenant(tenant_id)) as session:
        keys.create_api_key(session, runtime.clock, tenant_id, name="x", scopes=scopes)
    assert "scopes" in refused.value.fields


def test_a_token_says_whose_it_is(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        key, _ = keys.create_signing_key(session, runtime.vault, runtime.clock, tenant_id, name="x", algorithm="HS256")
    token = keys.make_token(runtime.vault, key, "ada", runtime.clock, 1)

    with runtime.db.transaction(system(Purpose.AUTHENTICATE)) as session:
        assert keys.read_token(session, runtime.vault, runtime.clock, token) == (tenant_id, "ada")
        with pytest.raises(UnauthorizedError):
            keys.read_token(session, runtime.vault, runtime.clock, token + "x" * 10_000)


def test_a_service_may_sign_with_a_private_key_that_we_never_see(runtime: Runtime, tenant_id: str) -> None:
    private = Ed25519PrivateKey.generate()
    with runtime.db.transaction(tenant(tenant_id)) as session:
        key, shown = keys.create_signing_key(
            session, runtime.vault, runtime.clock, tenant_id, name="x", algorithm="EdDSA", public_key=pem(private)
        )
    assert shown is None
    claims = {"sub": "ada", "exp": int((runtime.clock.now() + timedelta(hours=1)).timestamp())}
    signed = jwt.encode(
        claims,
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "EdDSA",
        headers={"kid": key.id},
    )
    forged = jwt.api_jws.PyJWS().encode(b"{}", "x" * 32, "HS256", headers={"kid": key.id})

    with runtime.db.transaction(system(Purpose.AUTHENTICATE)) as session:
        assert keys.read_token(session, runtime.vault, runtime.clock, signed) == (tenant_id, "ada")
        with pytest.raises(UnauthorizedError):
            keys.read_token(session, runtime.vault, runtime.clock, forged)
    with pytest.raises(ConflictError):
        keys.make_token(runtime.vault, key, "ada", runtime.clock, 1)


@pytest.mark.parametrize(
    ("algorithm", "public_key", "field"),
    [
        ("HS512", None, "algorithm"),
        ("EdDSA", None, "publicKey"),
        ("EdDSA", "no key", "publicKey"),
        ("EdDSA", pem(generate_private_key(65537, 2048)), "publicKey"),
        ("HS256", pem(Ed25519PrivateKey.generate()), "publicKey"),
    ],
)
def test_what_is_no_signing_key_is_refused(
    runtime: Runtime, tenant_id: str, algorithm: str, public_key: str | None, field: str
) -> None:
    with pytest.raises(InvalidError) as refused, runtime.db.transaction(tenant(tenant_id)) as session:
        keys.create_signing_key(
            session, runtime.vault, runtime.clock, tenant_id, name="x", algorithm=algorithm, public_key=public_key
        )
    assert set(refused.value.fields) == {field}


@pytest.mark.parametrize("hours", [0, -1, 24.1])
def test_a_token_lasts_at_most_a_day(runtime: Runtime, tenant_id: str, hours: float) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        key = session.execute(select(SigningKey).where(SigningKey.tenant_id == tenant_id)).scalar_one()
    with pytest.raises(InvalidError):
        keys.make_token(runtime.vault, key, "ada", runtime.clock, hours)
