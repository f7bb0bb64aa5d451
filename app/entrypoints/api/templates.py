"""Templates: the words of a key on a channel in a locale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request
from marshmallow import fields
from sqlalchemy.orm import Session

from app.core import templates
from app.entrypoints.api.common import ApiBlueprint, caller, deleted, runtime, transaction
from app.entrypoints.api.schemas import (
    ApiSchema,
    JsonObject,
    PageQuery,
    Time,
    channel,
    choice,
    cursor,
    page_of,
    text,
)
from app.models import Template
from app.paging import Page

blp = ApiBlueprint("templates", __name__, url_prefix="/api/templates", scope="templates", description="The words.")

_MOST = 200_000  # characters of one part


class TemplateQuery(PageQuery):
    """Whose templates, and which."""

    source = choice("own", "shipped", load_default="own", metadata={"description": "Your own, or those to copy from."})
    key = text(200)
    channel = channel()


def _part(channels: str) -> fields.String:
    return text(_MOST, least=0, allow_none=True, metadata={"description": f"For {channels}."})


class PartsIn(ApiSchema):
    """The parts of a message in Handlebars. Which there are depends on the channel."""

    subject = _part("email")
    text = _part("email, sms and in_app")
    html = _part("email")
    title = _part("in_app")
    actionUrl = _part("in_app")  # noqa: N815
    payload = _part("webhook; JSON when it is rendered")


class TemplateIn(PartsIn):
    """A template to save."""

    key = text(200, required=True, metadata={"example": "order.created"})
    channel = channel(required=True)
    locale = text(35, least=0, allow_none=True, metadata={"description": "Default: for any locale.", "example": "de"})


class TemplateOut(ApiSchema):
    """A template. A shipped one has no id, and version 0."""

    id = fields.String(required=True, allow_none=True)
    key = fields.String(required=True)
    channel = fields.String(required=True)
    locale = fields.String(required=True)
    version = fields.Integer(required=True)
    source = fields.String(required=True)
    subject = fields.String()
    text = fields.String()
    html = fields.String()
    title = fields.String()
    actionUrl = fields.String()  # noqa: N815
    payload = fields.String()
    created_at = Time()
    updated_at = Time()


class PreviewIn(ApiSchema):
    """What to fill a template with."""

    data = JsonObject(load_default=dict, metadata={"description": "The data of the event."})
    recipient = JsonObject(load_default=dict, metadata={"description": "As {userId, name, email, …, attributes}."})
    locale = text(35, allow_none=True)
    time_zone = text(64, allow_none=True)


class UnsavedPreviewIn(PreviewIn, PartsIn):
    """Text to try out."""

    channel = channel(required=True)
    partials = fields.Dict(
        keys=text(200),
        values=text(_MOST, least=0),
        load_default=dict,
        error_messages={"invalid": "is not an object"},
        metadata={"description": "Layouts and partials by name, over those that are saved."},
    )


class RenderedOut(ApiSchema):
    """The words, part by part."""

    subject = fields.String()
    text = fields.String()
    html = fields.String()
    title = fields.String()
    actionUrl = fields.String()  # noqa: N815
    payload = fields.String()


@blp.route("")
@blp.arguments(TemplateQuery, location="query")
@blp.response(200, page_of(TemplateOut))
def list_templates(query: dict[str, Any]) -> Page[Any]:
    """List your own templates, the newest first, or all that ship with the product (`?source=shipped`)."""
    at, source = cursor(query), query.pop("source")
    if source == "shipped":
        return templates.shipped(runtime().files, at, **query).map(_shown)
    with transaction(read_only=True) as session:
        return templates.search(session, caller().tenant_id, at, **query).map(_shown)


def _faults(given: Mapping[str, Any]) -> dict[str, str]:
    with transaction(read_only=True) as session:
        return templates.faults(session, runtime().files, caller().tenant_id, _with_refused(given))


def _preview_faults(given: Mapping[str, Any]) -> dict[str, str]:
    with transaction(read_only=True) as session:
        return templates.preview_faults(session, runtime().files, caller().tenant_id, _with_refused(given))


def _with_refused(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parts and partials that the schema refused count as empty, so that nobody is told that they are missing."""
    body: dict[str, Any] = request.get_json(force=True)
    parts = {name: "" for name in templates.PART_NAMES if body.get(name) is not None}
    named = body.get("partials")
    partials = dict.fromkeys(named, "") if isinstance(named, dict) else {}
    return {**parts, **given, "partials": partials | given.get("partials", {})}


@blp.route("", methods=["POST"])
@blp.arguments(TemplateIn, judge=_faults)
@blp.creates(201, TemplateOut)
def create_template(session: Session, data: dict[str, Any]) -> dict[str, Any]:
    """Create a template. It is compiled now: a fault is named with its part, line and column."""
    return _shown(templates.create(session, runtime().files, runtime().clock, caller().tenant_id, data))


@blp.route("/<template_id>")
@blp.response(200, TemplateOut)
def get_template(template_id: str) -> dict[str, Any]:
    """Read one template."""
    with transaction(read_only=True) as session:
        return _shown(templates.get(session, caller().tenant_id, template_id))


@blp.route("/<template_id>", methods=["PUT"])
@blp.arguments(TemplateIn, judge=_faults)
@blp.response(200, TemplateOut)
def replace_template(data: dict[str, Any], template_id: str) -> dict[str, Any]:
    """Replace a template whole; its version goes up by one."""
    with transaction() as session:
        made = templates.replace(session, runtime().files, runtime().clock, caller().tenant_id, template_id, data)
        return _shown(made)


@blp.route("/<template_id>", methods=["DELETE"])
@blp.response(204)
def delete_template(template_id: str) -> Response:
    """Delete a template; if one ships with the product for its key, that one counts again."""
    with transaction() as session:
        templates.remove(session, runtime().files, caller().tenant_id, template_id)
    return deleted()


@blp.route("/<template_id>/preview", methods=["POST"], action="read")
@blp.arguments(PreviewIn, required=False, judge=templates.place_faults)
@blp.response(200, RenderedOut)
def preview_template(data: dict[str, Any], template_id: str) -> dict[str, str]:
    """Render a saved template with some data. Nothing is sent."""
    with transaction(read_only=True) as session:
        return templates.preview_saved(session, runtime().files, runtime().clock, caller().tenant_id, template_id, data)


@blp.route("/preview", methods=["POST"], action="read")
@blp.arguments(UnsavedPreviewIn, judge=_preview_faults)
@blp.response(200, RenderedOut)
def preview_text(data: dict[str, Any]) -> dict[str, str]:
    """Render text that is not saved. Nothing is sent, nothing is kept."""
    with transaction(read_only=True) as session:
        return templates.preview(session, runtime().files, runtime().clock, caller().tenant_id, data)


def _shown(found: Template | dict[str, Any]) -> dict[str, Any]:
    """A template with its parts beside its other fields."""
    if isinstance(found, dict):
        return {**found, **found["parts"], "id": None, "source": "shipped"}
    names = ("id", "key", "channel", "locale", "version", "created_at", "updated_at")
    return {**{name: getattr(found, name) for name in names}, **found.parts, "source": "own"}
