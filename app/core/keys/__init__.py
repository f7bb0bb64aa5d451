"""The keys that services and people come with, and the first ones of a new installation.

A service comes with an API key, of which only a hash is kept. A person comes with a token (JWT) that a
service of the tenant signed with one of the tenant's signing keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.clock import Clock
from app.core import rules
from app.core.keys.tokens import make_token as make_token
from app.core.keys.tokens import read_token as read_token
from app.core.keys.tokens import read_token_until as read_token_until
from app.crypto import Vault, digest_of, random_text
from app.errors import NotFoundError, refuse
from app.ids import is_id
from app.models import ApiKey, SigningKey, Tenant
from app.paging import Cursor, Page, page
from app.rows import is_postgres
from providers.webhook.signature import new_secret

RESOURCES = ("events", "notifications", "webhooks", "rules", "templates", "recipients", "deliveries", "send", "keys")
SCOPES = frozenset({"*", *(f"{resource}:{action}" for resource in RESOURCES for action in ("read", "write"))})
K = TypeVar("K", ApiKey, SigningKey)

KINDS = ("live", "test")
ALGORITHMS = ("HS256", "EdDSA")
_SECRET_LENGTH = 43  # of 57 letters and digits: 250 bits
_FORM = re.compile(r"tdg_(live|test)_[A-Za-z0-9]{32,200}")
_USE_NOTED_FOR = timedelta(minutes=10)
_BOOTSTRAP_LOCK = 7_483_001  # an advisory lock's name on PostgreSQL: any number that nothing else uses


def create_api_key(
    session: Session,
    clock: Clock,
    tenant_id: str,
    *,
    name: str,
    kind: str = "live",
    scopes: Sequence[str] = ("*",),
    expires_at: datetime | None = None,
    secret: str | None = None,
) -> tuple[ApiKey, str]:
    """A new API key and its plaintext (`tdg_live_…`), which nobody can read again. Raises InvalidError."""
    refuse(api_key_faults(clock, {"scopes": scopes, "expires_at": expires_at}))
    plain = secret or f"tdg_{kind}_{random_text(_SECRET_LENGTH)}"
    key = ApiKey(
        tenant_id=tenant_id,
        name=name,
        kind=kind,
        hint=f"{plain[:13]}…{plain[-4:]}",
        key_hash=digest_of(plain),
        scopes=sorted(set(scopes)),
        created_at=clock.now(),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, plain


def api_key_faults(clock: Clock, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with those of an API key's fields that are there: {path: why}."""
    found: dict[str, str] = {}
    scopes, expires_at = fields.get("scopes"), fields.get("expires_at")
    if scopes is not None:
        wrong = [scope for scope in scopes if scope is not None and scope not in SCOPES]
        if wrong or not scopes:
            found["scopes"] = f"{wrong[0]!r} is not a scope" if wrong else "names no scope"
    if expires_at is not None and expires_at <= clock.now():
        found["expiresAt"] = "lies in the past"
    return found


def find_api_key(session: Session, clock: Clock, secret: str) -> ApiKey | None:
    """The key with this plaintext, if it may still be used. `session` sees all tenants (to authenticate).

    The look-up is by hash, so its time says nothing about how much of a guess was right.
    """
    if not _FORM.fullmatch(secret):
        return None
    key = session.execute(select(ApiKey).where(ApiKey.key_hash == digest_of(secret))).scalar_one_or_none()
    if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= clock.now()):
        return None
    return key


def note_use(session: Session, clock: Clock, key: ApiKey) -> None:
    """Write down that a key was used, to within ten minutes. `session` sees all tenants (to authenticate)."""
    mine = (ApiKey.tenant_id == key.tenant_id, ApiKey.id == key.id)
    session.execute(update(ApiKey).where(*mine).values(last_used_at=clock.now()))


def use_is_noted(clock: Clock, key: ApiKey) -> bool:
    """Whether the key's last use that is written down is recent enough."""
    return key.last_used_at is not None and clock.now() - key.last_used_at < _USE_NOTED_FOR


def list_api_keys(session: Session, tenant_id: str, cursor: Cursor) -> Page[ApiKey]:
    """A tenant's API keys, newest first, also those that are revoked."""
    return page(session, select(ApiKey).where(ApiKey.tenant_id == tenant_id), ApiKey.id, cursor)


def get_api_key(session: Session, tenant_id: str, key_id: str) -> ApiKey:
    """One API key. Raises NotFoundError."""
    return _get(session, ApiKey, tenant_id, key_id, "API key")


def replace_api_key(
    session: Session,
    clock: Clock,
    tenant_id: str,
    key_id: str,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> ApiKey:
    """Replace what may change of a key; its plaintext and kind stay. Raises NotFoundError, InvalidError."""
    refuse(api_key_faults(clock, {"scopes": scopes, "expires_at": expires_at}))
    key = get_api_key(session, tenant_id, key_id)
    key.name, key.scopes, key.expires_at = name, sorted(set(scopes)), expires_at
    session.flush()
    return key


def revoke_api_key(session: Session, clock: Clock, tenant_id: str, key_id: str) -> None:
    """From now on this key opens nothing. Doing it again is harmless. Raises NotFoundError."""
    key = get_api_key(session, tenant_id, key_id)
    key.revoked_at = key.revoked_at or clock.now()
    session.flush()


def create_signing_key(
    session: Session,
    vault: Vault,
    clock: Clock,
    tenant_id: str,
    *,
    name: str,
    algorithm: str,
    public_key: str | None = None,
) -> tuple[SigningKey, str | None]:
    """A key for people's tokens.

    HS256: a secret is made, and returned this once. EdDSA: the caller keeps the private key and gives the public
    one (Ed25519, PEM); nothing is returned. Raises InvalidError.
    """
    refuse(signing_key_faults({"algorithm": algorithm, "public_key": public_key}))
    secret = random_text(_SECRET_LENGTH) if algorithm == "HS256" else None
    material = secret or str(public_key)
    key = SigningKey(
        tenant_id=tenant_id, name=name, algorithm=algorithm, material=vault.seal(material), created_at=clock.now()
    )
    session.add(key)
    session.flush()
    return key, secret


def signing_key_faults(fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with those of a signing key's fields that are there: {path: why}."""
    algorithm, public_key = fields.get("algorithm"), fields.get("public_key")
    if algorithm is not None and algorithm not in ALGORITHMS:
        return {"algorithm": f"is none of {', '.join(ALGORITHMS)}"}
    fault = None
    if algorithm == "HS256" and public_key is not None:
        fault = "is only for EdDSA; for HS256 a secret is made"
    elif algorithm == "EdDSA" and not public_key:
        fault = "is needed for EdDSA"
    elif public_key is not None:
        fault = _pem_fault(public_key)
    return {"publicKey": fault} if fault else {}


def _pem_fault(public_key: str) -> str | None:
    try:
        loaded = load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        return "is not a public key in PEM"
    return None if isinstance(loaded, Ed25519PublicKey) else "is not an Ed25519 key"


def list_signing_keys(session: Session, tenant_id: str, cursor: Cursor) -> Page[SigningKey]:
    """A tenant's signing keys, newest first, also those that are revoked."""
    return page(session, select(SigningKey).where(SigningKey.tenant_id == tenant_id), SigningKey.id, cursor)


def get_signing_key(session: Session, tenant_id: str, key_id: str) -> SigningKey:
    """One signing key. Raises NotFoundError."""
    return _get(session, SigningKey, tenant_id, key_id, "signing key")


def rename_signing_key(session: Session, tenant_id: str, key_id: str, name: str) -> SigningKey:
    """Call a signing key something else; what it signs stays good. Raises NotFoundError."""
    key = get_signing_key(session, tenant_id, key_id)
    key.name = name
    session.flush()
    return key


def revoke_signing_key(session: Session, clock: Clock, tenant_id: str, key_id: str) -> None:
    """From now on tokens signed with this key are refused. Doing it again is harmless. Raises NotFoundError."""
    key = get_signing_key(session, tenant_id, key_id)
    key.revoked_at = key.revoked_at or clock.now()
    session.flush()


def _get(session: Session, model: type[K], tenant_id: str, key_id: str, noun: str) -> K:
    found: K | None = None
    if is_id(key_id):
        query = select(model).where(model.tenant_id == tenant_id, model.id == key_id.lower())
        found = session.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"There is no such {noun}.")
    return found


def bootstrap(
    session: Session, vault: Vault, clock: Clock, *, api_key_secret: str | None, tenant_name: str = "Tidings"
) -> tuple[Tenant, str | None]:
    """The first tenant with the shipped rules, its first API key and a signing key. Harmless when called again.

    Returns the tenant, and the API key's plaintext if one was made now. With `api_key_secret` that very key is
    made unless it was before (a revoked one stays revoked). `session` sees all tenants.
    """
    if is_postgres(session):  # two processes may start at once; SQLite has one writer anyway
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _BOOTSTRAP_LOCK})
    tenant = session.execute(select(Tenant).order_by(Tenant.created_at, Tenant.id).limit(1)).scalar_one_or_none()
    if tenant is None:
        tenant = Tenant(
            name=tenant_name, webhook_secret=vault.seal(new_secret()), preference_defaults={}, created_at=clock.now()
        )
        session.add(tenant)
        session.flush()
        rules.seed(session, clock, tenant.id)
    if not _count(session, SigningKey, SigningKey.tenant_id == tenant.id):
        create_signing_key(session, vault, clock, tenant.id, name="default", algorithm="HS256")
    wanted = ApiKey.key_hash == digest_of(api_key_secret) if api_key_secret else ApiKey.tenant_id == tenant.id
    if _count(session, ApiKey, wanted):
        return tenant, None
    kind = "test" if (api_key_secret or "").startswith("tdg_test_") else "live"
    return tenant, create_api_key(session, clock, tenant.id, name="first", kind=kind, secret=api_key_secret)[1]


def _count(session: Session, model: type[Any], condition: Any) -> int:
    return session.execute(select(func.count()).select_from(model).where(condition)).scalar_one()
