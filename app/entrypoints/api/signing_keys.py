"""Signing keys: with them a tenant's services sign tokens for people."""

from __future__ import annotations

from typing import Any

from flask import Response
from marshmallow import fields
from sqlalchemy.orm import Session

from app.core import keys
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, doors, runtime, shown_once, transaction
from app.entrypoints.api.schemas import ApiSchema, PageQuery, Time, choice, cursor, page_of, secret, text
from app.models import SigningKey
from app.paging import Page

blp = ApiBlueprint(
    "signing-keys",
    __name__,
    url_prefix="/api/signing-keys",
    scope="keys",
    description="Keys for people's tokens: a JWT with `kid`, `sub` (the user id) and `exp` (at most 24 hours away).",
)


class SigningKeyIn(ApiSchema):
    """A key to make: HS256 with a secret of ours, or EdDSA with a public key (Ed25519, PEM) of yours."""

    name = text(255, required=True)
    algorithm = choice(*keys.ALGORITHMS, required=True)
    public_key = text(10_000, load_default=None)


class SigningKeyChange(ApiSchema):
    """What may change of a key."""

    name = text(255, required=True)


class SigningKeyOut(ApiSchema):
    """A key. Its id goes into the token's header as `kid`."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    algorithm = fields.String(required=True)
    created_at = Time(required=True)
    revoked_at = Time(allow_none=True)


class SigningKeyMade(SigningKeyOut):
    """A new key. `secret` is shown this once, and only for HS256."""

    secret = secret(allow_none=True)


@blp.route("")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(SigningKeyOut))
def list_signing_keys(query: dict[str, Any]) -> Page[SigningKey]:
    """List the signing keys, also revoked ones."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return keys.list_signing_keys(session, caller().tenant_id, at)


@blp.route("", methods=["POST"])
@blp.arguments(SigningKeyIn, judge=keys.signing_key_faults)
@blp.creates(201, SigningKeyMade)
def create_signing_key(session: Session, data: dict[str, Any]) -> dict[str, Any]:
    """Make a signing key. An HS256 secret is in this answer and nowhere else."""
    made, plain = keys.create_signing_key(session, runtime().vault, runtime().clock, caller().tenant_id, **data)
    return shown_once(made, secret=plain)


@blp.route("/<key_id>")
@blp.response(200, SigningKeyOut)
def get_signing_key(key_id: str) -> SigningKey:
    """Read one signing key."""
    with transaction(read_only=True) as session:
        return keys.get_signing_key(session, caller().tenant_id, key_id)


@blp.route("/<key_id>", methods=["PUT"])
@blp.arguments(SigningKeyChange)
@blp.response(200, SigningKeyOut)
def rename_signing_key(data: dict[str, Any], key_id: str) -> SigningKey:
    """Change a key's name. Tokens signed with it stay good."""
    with transaction() as session:
        return keys.rename_signing_key(session, caller().tenant_id, key_id, data["name"])


@blp.route("/<key_id>", methods=["DELETE"])
@blp.response(204)
def revoke_signing_key(key_id: str) -> Response:
    """Revoke a signing key: tokens signed with it are refused."""
    with transaction() as session:
        keys.revoke_signing_key(session, runtime().clock, caller().tenant_id, key_id)
    doors().authenticator.forget()
    return deleted()
