"""Topics: named lists of recipients that an event can be posted to."""

from __future__ import annotations

from typing import Any

from flask import Response
from marshmallow import fields

from app.core import topics
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, runtime, transaction
from app.entrypoints.api.schemas import ApiSchema, PageQuery, Time, cursor, many, page_of, text, user_id
from app.models import Topic
from app.paging import Page

blp = ApiBlueprint(
    "topics", __name__, url_prefix="/api/topics", scope="recipients", description="Named lists of recipients."
)


class TopicIn(ApiSchema):
    """What is said of a topic; what is left out is cleared. Its list stays as it is."""

    description = text(topics.MAX_DESCRIPTION, least=0, load_default="")


class TopicOut(ApiSchema):
    """A topic."""

    name = fields.String(required=True)
    description = fields.String(required=True)
    created_at = Time(required=True)
    updated_at = Time(required=True)


class TopicWhole(TopicOut):
    """A topic, and how many people are on its list."""

    recipients = fields.Integer(required=True)


class ListIn(ApiSchema):
    """People, by their user ids."""

    user_ids = many(user_id(), least=1, most=topics.MAX_LISTED, required=True)


class AddedOut(ApiSchema):
    """How many were new on the list."""

    added = fields.Integer(required=True)


class RemovedOut(ApiSchema):
    """How many were on the list."""

    removed = fields.Integer(required=True)


class ListQuery(PageQuery):
    """`?limit=` and `?after=`: a list is in the order of its user ids, and its cursor is one of them."""

    after = user_id(load_default="", metadata={"description": "The `nextCursor` of the page before."})


class ListedPage(ApiSchema):
    """User ids of a list, and the mark to go on from."""

    items = fields.List(fields.String(), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


@blp.route("")
@blp.arguments(PageQuery, location="query")
@blp.response(200, page_of(TopicOut))
def list_topics(query: dict[str, Any]) -> Page[Topic]:
    """List the topics, the newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return topics.search(session, caller().tenant_id, at)


@blp.route("/<name>")
@blp.response(200, TopicWhole)
def get_topic(name: str) -> dict[str, Any]:
    """Read one topic, and how many people are on its list."""
    with transaction(read_only=True) as session:
        return _whole(topics.get(session, caller().tenant_id, name), topics.size(session, caller().tenant_id, [name]))


@blp.route("/<name>", methods=["PUT"])
@blp.arguments(TopicIn)
@blp.response(200, TopicOut)
def put_topic(data: dict[str, Any], name: str) -> Topic:
    """Save a topic, new or known."""
    with transaction() as session:
        return topics.put(session, runtime().clock, caller().tenant_id, name, data)


@blp.route("/<name>", methods=["DELETE"])
@blp.response(204)
def delete_topic(name: str) -> Response:
    """Delete a topic with its list. Events that were planned already stay as they are."""
    more = True
    while more:  # in short transactions, however long the list is; broken off, it can be asked again
        with transaction() as session:
            more = topics.empty(session, caller().tenant_id, name)
            if not more:
                topics.remove(session, caller().tenant_id, name)
    return deleted()


@blp.route("/<name>/recipients")
@blp.arguments(ListQuery, location="query")
@blp.response(200, ListedPage)
def list_people(query: dict[str, Any], name: str) -> Page[str]:
    """List the people of a topic, in the order of their user ids."""
    with transaction(read_only=True) as session:
        return topics.list_page(session, caller().tenant_id, name, **query)


@blp.route("/<name>/recipients", methods=["PUT"])
@blp.arguments(ListIn)
@blp.response(200, AddedOut)
def add_people(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Put people on a topic's list; the topic is made if it is not there."""
    with transaction() as session:
        return {"added": topics.add(session, runtime().clock, caller().tenant_id, name, data["user_ids"])}


@blp.route("/<name>/recipients", methods=["DELETE"])
@blp.arguments(ListIn)
@blp.response(200, RemovedOut)
def remove_people(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Take people from a topic's list."""
    with transaction() as session:
        return {"removed": topics.take(session, caller().tenant_id, name, data["user_ids"])}


def _whole(topic: Topic, recipients: int) -> dict[str, Any]:
    return {name: getattr(topic, name) for name in TopicOut().fields} | {"recipients": recipients}
