"""In-app notifications: what a person sees in the bell. Services name the person with ?userId=."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from app.core import greetings, inbox
from app.core.deliveries import records, send
from app.entrypoints.api.common import ApiBlueprint, caller, doors, person_of, runtime, transaction
from app.entrypoints.api.deliveries import DeliveriesOut
from app.entrypoints.api.schemas import (
    ApiSchema,
    PageQuery,
    PersonQuery,
    Time,
    channel,
    choice,
    cursor,
    flag,
    many,
    page_of,
)
from app.entrypoints.api.schemas import user_id as user_id_field
from app.models import InAppNotification
from app.paging import Page
from app.tenancy import tenant
from providers.contract import Channel

MAX_IDS = 1_000

blp = ApiBlueprint(
    "notifications",
    __name__,
    url_prefix="/api/notifications",
    scope="notifications",
    persons=True,
    description="What a person sees in the bell.",
)


class NotificationFilter(PageQuery):
    """Whose, and which."""

    user_id = user_id_field()
    unread = flag()
    read = flag()
    type = choice(*inbox.TYPES)
    since = Time(metadata={"description": "Made at or after."})


class NotificationOut(ApiSchema):
    """One item of the list. Its id is its delivery's."""

    id = fields.String(required=True)
    event_id = fields.String(allow_none=True)
    event_type = fields.String(allow_none=True)
    type = fields.String(required=True)
    title = fields.String(required=True)
    message = fields.String(required=True)
    action_url = fields.String(allow_none=True)
    created_at = Time(required=True)
    read_at = Time(allow_none=True)


class IdsIn(ApiSchema):
    """Which notifications. Those that are not the person's are passed by."""

    ids = many(fields.String(error_messages={"invalid": "is not text"}), least=1, most=MAX_IDS, required=True)


class CountOut(ApiSchema):
    """How many."""

    count = fields.Integer(required=True)


class TestIn(ApiSchema):
    """On which channels."""

    channels = many(channel(), least=1, most=len(Channel), load_default=[Channel.IN_APP.value])


@blp.route("")
@blp.arguments(NotificationFilter, location="query")
@blp.response(200, page_of(NotificationOut))
def list_notifications(query: dict[str, Any]) -> Page[InAppNotification]:
    """List a person's notifications, newest first."""
    user_id, scope = person_of(query)
    at = cursor(query)
    query["kind"] = query.pop("type", None)
    with transaction(read_only=True, scope=scope) as session:
        return inbox.search(session, caller().tenant_id, user_id, at, **query)


@blp.route("/unread-count")
@blp.arguments(PersonQuery, location="query")
@blp.response(200, CountOut)
def count_unread(query: dict[str, Any]) -> dict[str, int]:
    """Count what a person has not read."""
    user_id, scope = person_of(query)
    with transaction(read_only=True, scope=scope) as session:
        return {"count": inbox.unread_count(session, caller().tenant_id, user_id)}


@blp.route("/mark-as-read", methods=["POST"])
@blp.arguments(PersonQuery, location="query")
@blp.arguments(IdsIn)
@blp.response(200, CountOut)
def mark_as_read(query: dict[str, Any], data: dict[str, Any]) -> dict[str, int]:
    """Mark notifications as read; says how many were not."""
    return _mark(query, data["ids"])


@blp.route("/mark-all-as-read", methods=["POST"])
@blp.arguments(PersonQuery, location="query")
@blp.response(200, CountOut)
def mark_all_as_read(query: dict[str, Any]) -> dict[str, int]:
    """Mark all of a person's notifications as read."""
    return _mark(query, None)


def _mark(query: dict[str, Any], ids: list[str] | None) -> dict[str, int]:
    user_id, scope = person_of(query)
    with transaction(scope=scope) as session:
        return {"count": inbox.mark_as_read(session, runtime().clock, caller().tenant_id, user_id, ids)}


@blp.route("/delete", methods=["POST"])
@blp.arguments(PersonQuery, location="query")
@blp.arguments(IdsIn)
@blp.response(200, CountOut)
def delete_notifications(query: dict[str, Any], data: dict[str, Any]) -> dict[str, int]:
    """Take notifications out of a person's list; their deliveries stay on record."""
    user_id, scope = person_of(query)
    with transaction(scope=scope) as session:
        return {"count": inbox.delete(session, caller().tenant_id, user_id, data["ids"])}


@blp.route("/test", methods=["POST"], group="send")
@blp.arguments(PersonQuery, location="query")
@blp.arguments(TestIn, required=False)
@blp.creates(202, DeliveriesOut, in_transaction=False)
def send_test(query: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Send a test notification (`tidings.test`) to the person on these channels, at once."""
    user_id, _ = person_of(query)
    who, parts = caller(), runtime()
    wanted = [Channel(name) for name in data["channels"]]
    with doors().waiting.place():
        with transaction(scope=tenant(who.tenant_id)) as session:  # a person's own scope shows no rules
            ids = greetings.write(session, parts, who.tenant_id, user_id, wanted, test=who.test)
        send.send_now(parts, who.tenant_id, ids)
    with transaction(read_only=True, scope=tenant(who.tenant_id)) as session:
        return {"deliveries": records.these(session, who.tenant_id, ids)}
