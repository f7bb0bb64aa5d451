"""API keys: what services come with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response
from marshmallow import fields
from sqlalchemy.orm import Session

from app.core import keys
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, doors, runtime, shown_once, transaction
from app.entrypoints.api.schemas import ApiSchema, PageQuery, Time, choice, cursor, many, page_of, secret, text
from app.errors import ForbiddenError
from app.models import ApiKey
from app.paging import Page

blp = ApiBlueprint(
    "api-keys", __name__, url_prefix="/api/api-keys", scope="keys", description="What services come with."
)


def _scopes(**options: Any) -> fields.Field[Any]:
    return many(choice(*sorted(keys.SCOPES)), least=1, most=len(keys.SCOPES), **options)


class ApiKeyIn(ApiSchema):
    """A key to make."""

    name = text(255, required=True)
    kind = choice(*keys.KINDS, load_default="live", metadata={"description": "What a test key posts is marked so."})
    scopes = _scopes(load_default=["*"])
    expires_at = Time(load_default=None, allow_none=True)


class ApiKeyChange(ApiSchema):
    """What may change of a key. `scopes` has no default here: leaving it out must not open everything."""

    name = text(255, required=True)
    scopes = _scopes(required=True)
    expires_at = Time(load_default=None, allow_none=True, metadata={"description": "Left out: never."})


class ApiKeyOut(ApiSchema):
    """A key, without its plaintext; `hint` is its beginning and end."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    kind = fields.String(required=True)
    hint = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    created_at = Time(required=True)
    expires_at = Time(allow_none=True)
    revoked_at = Time(allow_none=True)
    last_used_at = Time(allow_none=True, metadata={"description": "To within ten minutes."})


class ApiKeyMade(ApiKeyOut):
    """A new key. `key` is its plaintext, shown this once."""

    key = secret()


@blp.route("")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(ApiKeyOut))
def list_api_keys(query: dict[str, Any]) -> Page[ApiKey]:
    """List the API keys, also revoked ones."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return keys.list_api_keys(session, caller().tenant_id, at)


def _faults(given: Mapping[str, Any]) -> dict[str, str]:
    return keys.api_key_faults(runtime().clock, given)


@blp.route("", methods=["POST"])
@blp.arguments(ApiKeyIn, judge=_faults)
@blp.creates(201, ApiKeyMade)
def create_api_key(session: Session, data: dict[str, Any]) -> dict[str, Any]:
    """Make an API key. Its plaintext is in this answer and nowhere else."""
    _refuse_beyond_own(data["scopes"])
    made, plain = keys.create_api_key(session, runtime().clock, caller().tenant_id, **data)
    return shown_once(made, key=plain)


@blp.route("/<key_id>")
@blp.response(200, ApiKeyOut)
def get_api_key(key_id: str) -> ApiKey:
    """Read one API key."""
    with transaction(read_only=True) as session:
        return keys.get_api_key(session, caller().tenant_id, key_id)


@blp.route("/<key_id>", methods=["PUT"])
@blp.arguments(ApiKeyChange, judge=_faults)
@blp.response(200, ApiKeyOut)
def replace_api_key(data: dict[str, Any], key_id: str) -> ApiKey:
    """Change a key's name, scopes and end. Its plaintext stays; a revoked key stays revoked."""
    with transaction() as session:
        # Neither may a key give what it lacks, nor take away or lend from a stronger key than itself.
        _refuse_beyond_own([*data["scopes"], *keys.get_api_key(session, caller().tenant_id, key_id).scopes])
        changed = keys.replace_api_key(session, runtime().clock, caller().tenant_id, key_id, **data)
    doors().authenticator.forget()
    return changed


def _refuse_beyond_own(scopes: Sequence[str]) -> None:
    own = caller().scopes
    if "*" not in own and (beyond := [scope for scope in scopes if scope not in own]):
        raise ForbiddenError(f"This API key may not give the scope {beyond[0]}, which it lacks.", code="missing_scope")


@blp.route("/<key_id>", methods=["DELETE"])
@blp.response(204)
def revoke_api_key(key_id: str) -> Response:
    """Revoke an API key: from now on it opens nothing."""
    with transaction() as session:
        keys.revoke_api_key(session, runtime().clock, caller().tenant_id, key_id)
    doors().authenticator.forget()
    return deleted()
