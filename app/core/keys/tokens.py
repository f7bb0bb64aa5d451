"""People's tokens: JWTs that a service of the tenant signed with one of the tenant's signing keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.clock import Clock
from app.crypto import Vault, VaultError
from app.errors import ConflictError, InvalidError, UnauthorizedError
from app.ids import is_id
from app.models import SigningKey

MAX_TOKEN_HOURS = 24
_MAX_TOKEN = 8_192  # characters
_CLOCKS_DIFFER = timedelta(seconds=60)
_OPTIONS: Any = {
    "require": ["exp", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}


def read_token(session: Session, vault: Vault, clock: Clock, token: str) -> tuple[str, str]:
    """Whose token this is: (tenant id, user id). Raises UnauthorizedError.

    The header's `kid` names the signing key, and the key says the algorithm, whatever the header claims. `sub` is
    the user's id; `exp` is required and at most 24 hours away. `session` sees all tenants (to authenticate).
    """
    tenant_id, user_id, _ = read_token_until(session, vault, clock, token)
    return tenant_id, user_id


def read_token_until(session: Session, vault: Vault, clock: Clock, token: str) -> tuple[str, str, datetime]:
    """As `read_token`, and until when the token holds."""
    try:
        key = _signer(session, token)
        material = vault.open(key.material)
        # The times are judged by our own clock below; `aud` and `iss` are the signer's own affair.
        claims = jwt.decode(token, material, [key.algorithm], options=_OPTIONS)
        return key.tenant_id, _subject(claims), _expiry(claims, clock.now())
    except (jwt.PyJWTError, VaultError, ValueError, OverflowError, TypeError):
        raise UnauthorizedError("The token is not valid.", code="invalid_token") from None


def _signer(session: Session, token: str) -> SigningKey:
    if len(token) > _MAX_TOKEN:
        raise ValueError("too long")
    key_id = jwt.get_unverified_header(token).get("kid")
    if not isinstance(key_id, str) or not is_id(key_id):
        raise ValueError("no kid")
    query = select(SigningKey).where(SigningKey.id == key_id.lower(), SigningKey.revoked_at.is_(None))
    key = session.execute(query).scalar_one_or_none()
    if key is None:
        raise ValueError("unknown kid")
    return key


def _subject(claims: dict[str, Any]) -> str:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or "\x00" in subject:
        raise ValueError("sub")
    subject.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return subject


def _expiry(claims: dict[str, Any], now: datetime) -> datetime:
    expiry = datetime.fromtimestamp(float(claims["exp"]), UTC)
    begin = datetime.fromtimestamp(float(claims.get("nbf", 0)), UTC)
    if not now < expiry <= now + timedelta(hours=MAX_TOKEN_HOURS) + _CLOCKS_DIFFER or begin > now + _CLOCKS_DIFFER:
        raise ValueError("not now")
    return expiry


def make_token(vault: Vault, key: SigningKey, user_id: str, clock: Clock, hours: float) -> str:
    """A token for a person, to try with. Raises InvalidError, or ConflictError for a key whose secret we lack."""
    if key.algorithm != "HS256":
        raise ConflictError("Only the holder of the private key can sign with this key.")
    if not 0 < hours <= MAX_TOKEN_HOURS:
        raise InvalidError({"hours": f"is not above 0 and at most {MAX_TOKEN_HOURS}"})
    if not 1 <= len(user_id) <= 255:
        raise InvalidError({"userId": "is not 1 to 255 characters long"})
    now = clock.now()
    claims = {"sub": user_id, "iat": int(now.timestamp()), "exp": int((now + timedelta(hours=hours)).timestamp())}
    return jwt.encode(claims, vault.open(key.material), "HS256", headers={"kid": key.id})
