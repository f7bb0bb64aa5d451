"""Preferences: what a person wants to hear on which channel, and the tenant's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields, validate

from app.core import preferences
from app.entrypoints.api.common import ApiBlueprint, caller, person_of, runtime, transaction
from app.entrypoints.api.schemas import ApiSchema, PersonQuery, StrictBoolean, many, text
from app.tenancy import tenant

blp = ApiBlueprint(
    "preferences",
    __name__,
    url_prefix="/api/notifications/preferences",
    scope="notifications",
    persons=True,
    description="What a person wants to hear.",
)
defaults_blp = ApiBlueprint(
    "preference-defaults",
    __name__,
    url_prefix="/api/preference-defaults",
    scope="rules",
    description="What people hear who have not chosen.",
)


class ChoiceIn(ApiSchema):
    """A choice; null takes it back."""

    category = text(64, required=True, metadata={"description": 'A rule\'s category, or "*" for all.'})
    channel = fields.String(
        required=True,
        validate=validate.OneOf(preferences.CHANNELS, error=preferences.CHANNEL_FAULT),
        error_messages={"invalid": "is not text"},
    )
    enabled = StrictBoolean(required=True, allow_none=True)


class ChoicesIn(ApiSchema):
    """Some choices."""

    items = many(fields.Nested(ChoiceIn), most=preferences.MAX_ITEMS, required=True)


class EffectiveOut(ApiSchema):
    """What counts. `decidedBy`: person, person_all ("*"), tenant, tenant_all or default."""

    category = fields.String(required=True)
    channel = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    decided_by = fields.String(required=True)


class EffectivesOut(ApiSchema):
    """What counts for every known category on every channel that reaches people."""

    items = fields.List(fields.Nested(EffectiveOut), required=True)


class DefaultOut(ApiSchema):
    """One of the tenant's defaults."""

    category = fields.String(required=True)
    channel = fields.String(required=True)
    enabled = fields.Boolean(required=True)


class DefaultsOut(ApiSchema):
    """The tenant's defaults."""

    items = fields.List(fields.Nested(DefaultOut), required=True)


def _faults(given: Mapping[str, Any]) -> dict[str, str]:
    return preferences.faults(given.get("items", ()))


@blp.route("")
@blp.arguments(PersonQuery, location="query")
@blp.response(200, EffectivesOut)
def get_preferences(query: dict[str, Any]) -> dict[str, Any]:
    """Read what counts for a person, and who decided it."""
    user_id, _ = person_of(query)
    return _effective(user_id)


@blp.route("", methods=["PUT"])
@blp.arguments(PersonQuery, location="query")
@blp.arguments(ChoicesIn, judge=_faults)
@blp.response(200, EffectivesOut)
def put_preferences(query: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Set some choices of a person; those that are not named stay, null takes one back."""
    user_id, scope = person_of(query)
    with transaction(scope=scope) as session:
        preferences.put(session, runtime().clock, caller().tenant_id, user_id, data["items"])
    return _effective(user_id)


def _effective(user_id: str) -> dict[str, Any]:
    # The tenant's scope: rules and defaults have a say, and a person's scope does not show them.
    with transaction(read_only=True, scope=tenant(caller().tenant_id)) as session:
        return {"items": preferences.effective(session, caller().tenant_id, user_id)}


@defaults_blp.route("")
@defaults_blp.response(200, DefaultsOut)
def get_preference_defaults() -> dict[str, Any]:
    """Read the tenant's defaults."""
    with transaction(read_only=True) as session:
        return {"items": preferences.default_items(session, caller().tenant_id)}


@defaults_blp.route("", methods=["PUT"])
@defaults_blp.arguments(ChoicesIn, judge=_faults)
@defaults_blp.response(200, DefaultsOut)
def put_preference_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Replace the tenant's defaults."""
    with transaction() as session:
        preferences.put_defaults(session, caller().tenant_id, data["items"])
        return {"items": preferences.default_items(session, caller().tenant_id)}
