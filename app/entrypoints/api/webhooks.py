"""Webhook configurations: a subscriber's URL, secret and event types, and what its server answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from marshmallow import fields
from sqlalchemy.orm import Session

from app.core import trials, webhooks
from app.core.channels import reachable_ranges
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, doors, runtime, shown_once, transaction
from app.entrypoints.api.schemas import (
    ApiSchema,
    JsonObject,
    PageQuery,
    StrictBoolean,
    Time,
    cursor,
    event_type,
    many,
    page_of,
    secret,
    text,
)
from app.errors import refuse
from app.models import WebhookAttempt, WebhookConfiguration
from app.paging import Page

blp = ApiBlueprint(
    "webhooks",
    __name__,
    url_prefix="/api/webhooks/configurations",
    scope="webhooks",
    description="Who subscribes to which events.",
)


own_blp = ApiBlueprint(
    "webhook-secret",
    __name__,
    url_prefix="/api/webhooks",
    scope="webhooks",
    description="The secret that signs webhooks sent directly.",
)


class ConfigurationIn(ApiSchema):
    """A subscriber; what is left out gets its default."""

    url = text(4_096, required=True, metadata={"example": "https://example.com/hook"})
    event_types = many(
        text(255),
        least=1,
        most=webhooks.MAX_EVENT_TYPES,
        metadata={"description": "As order.created, order.* or *. Default: all."},
    )
    description = text(webhooks.MAX_DESCRIPTION, least=0, load_default="")
    enabled = StrictBoolean(load_default=True)


class ConfigurationOut(ApiSchema):
    """A subscriber. `secretHint` is the beginning of its secret."""

    id = fields.String(required=True)
    url = fields.String(required=True)
    event_types = fields.List(fields.String(), required=True)
    description = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    disabled_reason = fields.String(required=True, allow_none=True)
    disabled_at = Time(required=True, allow_none=True)
    secret_hint = fields.String(required=True)
    created_at = Time(required=True)
    updated_at = Time(required=True)


class ConfigurationMade(ConfigurationOut):
    """A subscriber with its secret, shown this once."""

    secret = secret()


class AttemptOut(ApiSchema):
    """One exchange with a subscriber's server. `statusCode` is null when there was no answer: see `error`."""

    id = fields.String(required=True)
    delivery_id = fields.String(required=True)
    event_id = fields.String(required=True, allow_none=True)
    number = fields.Integer(required=True)
    trigger = fields.String(required=True)
    url = fields.String(required=True)
    status_code = fields.Integer(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    request_headers = JsonObject(required=True, allow_none=True)
    response_headers = JsonObject(required=True, allow_none=True)
    response_body = fields.String(required=True, allow_none=True)
    peer = fields.String(required=True, allow_none=True)
    times = JsonObject(required=True, allow_none=True)
    duration_ms = fields.Float(required=True, allow_none=True)
    started_at = Time(required=True)


class TrialIn(ApiSchema):
    """What to try with."""

    event_type = event_type(load_default="tidings.test")


class TrialOut(AttemptOut):
    """The attempt, and what became of its delivery."""

    status = fields.String(required=True)
    reason = fields.String(required=True, allow_none=True)


@blp.route("")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(ConfigurationOut))
def list_configurations(query: dict[str, Any]) -> Page[dict[str, Any]]:
    """List the webhook configurations, the newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return webhooks.search(session, caller().tenant_id, at).map(_shown)


def _faults(given: Mapping[str, Any]) -> dict[str, str]:
    """Looks the URL's host up: outside any transaction."""
    return webhooks.faults(given, reachable_ranges(runtime().settings))


@blp.route("", methods=["POST"])
@blp.arguments(ConfigurationIn, judge=_faults)
@blp.creates(201, ConfigurationMade, in_transaction=False)
def create_configuration(data: dict[str, Any]) -> dict[str, Any]:
    """Subscribe a URL. Its signing secret is in this answer and nowhere else."""
    refuse(_faults(data))
    with transaction() as session:
        made, plain = webhooks.create(session, runtime().vault, runtime().clock, caller().tenant_id, data)
    return {**_shown(made), "secret": plain}


@blp.route("/<configuration_id>")
@blp.response(200, ConfigurationOut)
def get_configuration(configuration_id: str) -> dict[str, Any]:
    """Read one webhook configuration."""
    with transaction(read_only=True) as session:
        return _shown(webhooks.get(session, caller().tenant_id, configuration_id))


@blp.route("/<configuration_id>", methods=["PUT"])
@blp.arguments(ConfigurationIn, judge=_faults)
@blp.response(200, ConfigurationOut)
def replace_configuration(data: dict[str, Any], configuration_id: str) -> dict[str, Any]:
    """Replace all but the secret. Enabling it clears why it was disabled."""
    refuse(_faults(data))
    with transaction() as session:
        return _shown(webhooks.replace(session, runtime().clock, caller().tenant_id, configuration_id, data))


@blp.route("/<configuration_id>", methods=["DELETE"])
@blp.response(204)
def delete_configuration(configuration_id: str) -> Response:
    """Unsubscribe. Deliveries that wait for this URL fail; what was sent stays on record."""
    with transaction() as session:
        webhooks.remove(session, caller().tenant_id, configuration_id)
    return deleted()


@blp.route("/<configuration_id>/regenerate-secret", methods=["POST"])
@blp.creates(200, ConfigurationMade, in_transaction=False)
def regenerate_secret(configuration_id: str) -> dict[str, Any]:
    """Make a new signing secret. It is in this answer and nowhere else; the old one signs nothing more."""
    with transaction() as session:
        found, plain = webhooks.regenerate_secret(
            session, runtime().vault, runtime().clock, caller().tenant_id, configuration_id
        )
    return {**_shown(found), "secret": plain}


class OwnSecret(ApiSchema):
    """The tenant's own webhook secret, shown this once."""

    secret = secret()


@own_blp.route("/regenerate-secret", methods=["POST"])
@own_blp.creates(200, OwnSecret)
def regenerate_own_secret(session: Session) -> dict[str, Any]:
    """Make a new secret for direct webhook sends (`POST /api/send/webhook`), which have no configuration."""
    return {"secret": webhooks.regenerate_own_secret(session, runtime().vault, caller().tenant_id)}


@blp.route("/<configuration_id>/logs")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(AttemptOut))
def list_logs(query: dict[str, Any], configuration_id: str) -> Page[WebhookAttempt]:
    """List what the subscriber's server answered, the newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return webhooks.logs(session, caller().tenant_id, configuration_id, at)


@blp.route("/<configuration_id>/test", methods=["POST"], group="send")
@blp.arguments(TrialIn, required=False)
@blp.creates(200, TrialOut, in_transaction=False)
def test_configuration(data: dict[str, Any], configuration_id: str) -> dict[str, Any]:
    """Send a test event at once, also to a disabled configuration, and answer with what its server said."""
    with doors().waiting.place():
        return trials.try_webhook(runtime(), caller().tenant_id, configuration_id, data["event_type"])


def _shown(found: WebhookConfiguration) -> dict[str, Any]:
    return shown_once(found, secret=None, secret_hint=webhooks.hint(runtime().vault, found))
