"""Rules: when an event looks like this, tell its people with these actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from marshmallow import fields, post_load
from sqlalchemy.orm import Session

from app.core import rules
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, runtime, transaction
from app.entrypoints.api.schemas import (
    ApiSchema,
    PageQuery,
    StrictBoolean,
    Time,
    channel,
    cursor,
    many,
    page_of,
    text,
    whole,
)
from app.entrypoints.api.urgency import RulePriority
from app.models import Rule
from app.paging import Page

blp = ApiBlueprint("rules", __name__, url_prefix="/api/rules", scope="rules", description="Who is told of what.")

_CONDITION = {
    "description": "CEL over event, data and recipient; must give true or false.",
    "example": "data.total > 0",
}


class ActionIn(ApiSchema):
    """One message of a rule."""

    channel = channel(required=True)
    template = text(200, allow_none=True, metadata={"description": "Key of the template; webhooks may do without."})
    condition = text(2_000, allow_none=True, metadata=_CONDITION)
    to = text(4_096, allow_none=True, metadata={"description": "An address instead of the recipient's own."})
    configuration_id = text(36, allow_none=True, metadata={"description": "The webhook configuration to send to."})


class RuleIn(ApiSchema):
    """A rule to save; what is left out gets its default."""

    name = text(255, allow_none=True, metadata={"description": "Default: the event type."})
    event_type = text(255, required=True, metadata={"description": "Exact, as order.created, or order.* or *."})
    condition = text(2_000, allow_none=True, metadata=_CONDITION)
    order = whole(-rules.MAX_ORDER, rules.MAX_ORDER, metadata={"description": "Higher ones are looked at first."})
    priority = RulePriority()
    enabled = StrictBoolean(load_default=True)
    category = text(64, load_default="general", metadata={"description": "What preferences speak of."})
    critical = StrictBoolean(load_default=False, metadata={"description": "true: goes out whatever people prefer."})
    actions = many(fields.Nested(ActionIn), least=1, most=rules.MAX_ACTIONS, required=True)

    @post_load
    def _ordered(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        return _with_order(data)


def _with_order(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as core takes them: a number that was given as `priority` is the order, unless there is one."""
    given = data.get("priority")
    if not isinstance(given, int):
        return dict(data)
    return {"order": given} | {name: value for name, value in data.items() if name != "priority"}


class ActionOut(ApiSchema):
    """One message of a rule."""

    channel = fields.String(required=True)
    template = fields.String()
    condition = fields.String()
    to = fields.String()
    configuration_id = fields.String(attribute="configurationId")


class RuleOut(ApiSchema):
    """A rule."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    event_type = fields.String(required=True)
    condition = fields.String(required=True, allow_none=True)
    order = fields.Integer(attribute="priority", required=True)
    priority = fields.String(attribute="lane", required=True, allow_none=True)
    enabled = fields.Boolean(required=True)
    category = fields.String(required=True)
    critical = fields.Boolean(required=True)
    actions = fields.List(fields.Nested(ActionOut), required=True)
    created_at = Time(required=True)
    updated_at = Time(required=True)


@blp.route("")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(RuleOut))
def list_rules(query: dict[str, Any]) -> Page[Rule]:
    """List the rules, the newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return rules.search(session, caller().tenant_id, at)


def _faults(given: Mapping[str, Any]) -> dict[str, str]:
    with transaction(read_only=True) as session:
        return rules.faults(session, caller().tenant_id, _with_order(given))


@blp.route("", methods=["POST"])
@blp.arguments(RuleIn, judge=_faults)
@blp.creates(201, RuleOut)
def create_rule(session: Session, data: dict[str, Any]) -> Rule:
    """Create a rule. Conditions are compiled now: a fault is named with its line and column."""
    return rules.create(session, runtime().clock, caller().tenant_id, data)


@blp.route("/<rule_id>")
@blp.response(200, RuleOut)
def get_rule(rule_id: str) -> Rule:
    """Read one rule."""
    with transaction(read_only=True) as session:
        return rules.get(session, caller().tenant_id, rule_id)


@blp.route("/<rule_id>", methods=["PUT"])
@blp.arguments(RuleIn, judge=_faults)
@blp.response(200, RuleOut)
def replace_rule(data: dict[str, Any], rule_id: str) -> Rule:
    """Replace a rule whole: what is left out gets its default again."""
    with transaction() as session:
        return rules.replace(session, runtime().clock, caller().tenant_id, rule_id, data)


@blp.route("/<rule_id>", methods=["DELETE"])
@blp.response(204)
def delete_rule(rule_id: str) -> Response:
    """Delete a rule. Deliveries that it made stay on record."""
    with transaction() as session:
        rules.remove(session, caller().tenant_id, rule_id)
    return deleted()
