"""Recipients: the people who are told."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify
from marshmallow import fields
from werkzeug.routing import BaseConverter

from app.core import erasures, exports, recipients
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, runtime, transaction
from app.entrypoints.api.erasures import ErasureOut
from app.entrypoints.api.schemas import ApiSchema, JsonObject, PageQuery, Time, cursor, flag, page_of, text
from app.errors import NotFoundError
from app.models import Recipient
from app.paging import Page

blp = ApiBlueprint(
    "recipients", __name__, url_prefix="/api/recipients", scope="recipients", description="The people who are told."
)

ERASE_SECONDS = 5.0  # then the answer says that the sweeps go on


class UserIdConverter(BaseConverter):
    """`<user_id:…>` in a path: slashes belong to it, also a first one, which Flask's `path` would redirect away."""

    part_isolating = False
    regex = ".+?"


class RecipientIn(ApiSchema):
    """A person to save whole: what is left out is cleared."""

    name = text(255, allow_none=True)
    email = text(320, allow_none=True, metadata={"example": "ada@example.com"})
    phone = text(64, allow_none=True, metadata={"example": "+4915112345678"})
    locale = text(35, allow_none=True, metadata={"example": "de-AT"})
    time_zone = text(64, allow_none=True, metadata={"example": "Europe/Vienna"})
    attributes = JsonObject(allow_none=True, metadata={"description": "Anything that conditions and templates need."})


class RecipientOut(ApiSchema):
    """A person."""

    user_id = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    email = fields.String(required=True, allow_none=True)
    phone = fields.String(required=True, allow_none=True)
    locale = fields.String(required=True, allow_none=True)
    time_zone = fields.String(required=True, allow_none=True)
    attributes = JsonObject(required=True)
    created_at = Time(required=True)
    updated_at = Time(required=True)


class ExportOut(ApiSchema):
    """Everything about a person."""

    user_id = fields.String(required=True)
    exported_at = Time(required=True)
    profile = fields.List(JsonObject(), required=True)
    preferences = fields.List(JsonObject(), required=True)
    topics = fields.List(JsonObject(), required=True)
    notifications = fields.List(JsonObject(), required=True)
    deliveries = fields.List(JsonObject(), required=True)
    events = fields.List(JsonObject(), required=True)


class DeleteQuery(ApiSchema):
    """How much is to go."""

    erase = flag(
        load_default=False,
        metadata={"description": "true: everything about the person goes, and the answer is a receipt."},
    )


@blp.route("")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(RecipientOut))
def list_recipients(query: dict[str, Any]) -> Page[Recipient]:
    """List the people, the newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return recipients.search(session, caller().tenant_id, at)


@blp.route("/<user_id:user_id>", methods=["PUT"])
@blp.arguments(RecipientIn, judge=recipients.faults)
@blp.response(200, RecipientOut)
def put_recipient(data: dict[str, Any], user_id: str) -> Recipient:
    """Save a person whole, new or known."""
    with transaction() as session:
        return recipients.put(session, runtime().clock, caller().tenant_id, user_id, data)


@blp.route("/<user_id:user_id>")
@blp.response(200, RecipientOut)
def get_recipient(user_id: str) -> Recipient:
    """Read one person."""
    with transaction(read_only=True) as session:
        return recipients.get(session, caller().tenant_id, user_id)


@blp.route("/<user_id:user_id>/export")
@blp.response(200, ExportOut, description="Everything about the person, as a file.")
def export_recipient(user_id: str) -> Any:
    """Read everything that is stored about a person: profile, preferences, topics, notifications, deliveries, events.

    Where there is a person whose user id ends in `/export`, this reads that person.
    """
    with transaction(read_only=True) as session:
        named = recipients.find(session, caller().tenant_id, f"{user_id}/export")
        if named is not None:
            return jsonify(RecipientOut().dump(named))
    if not exports.knows(runtime(), caller().tenant_id, user_id):
        raise NotFoundError("Nothing is stored about this person.")
    answer = Response(exports.export(runtime(), caller().tenant_id, user_id), mimetype="application/json")
    answer.headers["Content-Disposition"] = "attachment"
    return answer


@blp.route("/<user_id:user_id>", methods=["DELETE"])
@blp.arguments(DeleteQuery, location="query")
@blp.response(204)
@blp.alt_response(200, schema=ErasureOut, description="With erase: the receipt.")
@blp.alt_response(202, schema=ErasureOut, description="With erase: the receipt of a removal that goes on.")
def delete_recipient(query: dict[str, Any], user_id: str) -> Response:
    """Forget a person. What was sent to them stays on record; with `?erase=true` they are removed everywhere."""
    if query["erase"]:
        receipt = erasures.erase(runtime(), caller().tenant_id, user_id, seconds=ERASE_SECONDS)
        answer = jsonify(ErasureOut().dump(receipt))
        answer.status_code = 200 if receipt.finished_at else 202
        return answer
    with transaction() as session:
        recipients.remove(session, caller().tenant_id, user_id)
    return deleted()
