"""Deliveries: one message for one person on one channel, how it is going, and why."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from app.core.deliveries import records, repair
from app.entrypoints.api.common import ApiBlueprint, caller, runtime, shown_once, transaction
from app.entrypoints.api.schemas import ApiSchema, PageQuery, Time, channel, choice, cursor, page_of, text, user_id
from app.models import Delivery
from app.paging import Page
from providers.contract import DeliveryStatus

blp = ApiBlueprint(
    "deliveries", __name__, url_prefix="/api/deliveries", scope="deliveries", description="What went out, and how."
)


class DeliveryFilter(PageQuery):
    """Which deliveries."""

    event_id = text(36)
    user_id = user_id()
    channel = channel()
    status = choice(*(status.value for status in DeliveryStatus))
    since = Time(metadata={"description": "Made at or after."})
    until = Time(metadata={"description": "Made before."})


class DeliveryOut(ApiSchema):
    """A delivery. `reason` says why it was skipped or failed."""

    id = fields.String(required=True)
    event_id = fields.String(allow_none=True)
    event_type = fields.String(allow_none=True)
    rule_id = fields.String(allow_none=True)
    configuration_id = fields.String(allow_none=True)
    user_id = fields.String(allow_none=True)
    channel = fields.String(required=True)
    category = fields.String(allow_none=True)
    template = fields.String(allow_none=True)
    to = fields.String(attribute="address", required=True)
    trigger = fields.String(required=True)
    status = fields.String(required=True)
    reason = fields.String(allow_none=True)
    error = fields.String(allow_none=True)
    attempt_count = fields.Integer(attribute="attempt", required=True)
    next_attempt_at = Time(allow_none=True)
    provider = fields.String(allow_none=True)
    provider_id = fields.String(allow_none=True)
    test = fields.Boolean(required=True)
    created_at = Time(required=True)
    updated_at = Time(required=True)
    sent_at = Time(allow_none=True)
    deferred_at = Time(allow_none=True)
    delivered_at = Time(allow_none=True)
    bounced_at = Time(allow_none=True)
    dropped_at = Time(allow_none=True)
    complained_at = Time(allow_none=True)
    opened_at = Time(allow_none=True)
    clicked_at = Time(allow_none=True)
    read_at = Time(allow_none=True)
    priority = fields.String(attribute="lane", required=True)
    expires_at = Time(allow_none=True)


class DeliveryAttempt(ApiSchema):
    """One try. `outcome` is null while it runs."""

    number = fields.Integer(required=True)
    provider = fields.String(allow_none=True)
    started_at = Time(required=True)
    finished_at = Time(allow_none=True)
    duration_ms = fields.Float(allow_none=True)
    outcome = fields.String(allow_none=True)
    code = fields.String(allow_none=True)
    error = fields.String(allow_none=True)
    detail = fields.Dict(allow_none=True)
    next_attempt_at = Time(allow_none=True)


class DeliveryWhole(DeliveryOut):
    """A delivery, its tries, and what was rendered (attachments by name and size)."""

    attempts = fields.List(fields.Nested(DeliveryAttempt), required=True)
    content = fields.Dict(allow_none=True, required=True)


class DeliveriesOut(ApiSchema):
    """The deliveries that a request made."""

    deliveries = fields.List(fields.Nested(DeliveryOut), required=True)


@blp.route("")
@blp.arguments(DeliveryFilter, location="query")
@blp.response(200, page_of(DeliveryOut))
def list_deliveries(query: dict[str, Any]) -> Page[Delivery]:
    """List deliveries, newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return records.search(session, caller().tenant_id, at, **query)


@blp.route("/<delivery_id>")
@blp.response(200, DeliveryWhole)
def get_delivery(delivery_id: str) -> dict[str, Any]:
    """Read one delivery with its attempts and what was rendered."""
    return _whole(delivery_id)


@blp.route("/<delivery_id>/retry", methods=["POST"], group="send")
@blp.response(200, DeliveryWhole)
def retry_delivery(delivery_id: str) -> dict[str, Any]:
    """Send a delivery again, with its whole schedule before it."""
    with transaction() as session:
        found = records.get(session, caller().tenant_id, delivery_id)
        repair.retry(session, runtime(), caller().tenant_id, found.id)
    return _whole(delivery_id)


@blp.route("/<delivery_id>/cancel", methods=["POST"])
@blp.response(200, DeliveryWhole)
def cancel_delivery(delivery_id: str) -> dict[str, Any]:
    """Call a delivery off. One that is on the wire just now may still arrive."""
    with transaction() as session:
        found = records.get(session, caller().tenant_id, delivery_id)
        repair.cancel(session, runtime(), caller().tenant_id, found.id)
    return _whole(delivery_id)


def _whole(delivery_id: str) -> dict[str, Any]:
    tenant_id = caller().tenant_id
    with transaction(read_only=True) as session:
        found = records.get(session, tenant_id, delivery_id)
        return shown_once(
            found,
            attempts=records.attempts(session, tenant_id, found.id),
            content=records.content(session, tenant_id, found.id),
        )
