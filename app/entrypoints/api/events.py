"""Events: something happened; the rules decide who hears of it."""

from __future__ import annotations

from typing import Any

from marshmallow import fields
from sqlalchemy.orm import Session

from app.core import dedupes, events, pipeline
from app.core.deliveries import records
from app.entrypoints.api.admission import admits
from app.entrypoints.api.common import ApiBlueprint, caller, runtime, transaction
from app.entrypoints.api.deliveries import DeliveryOut
from app.entrypoints.api.event_fields import BatchIn, EventIn
from app.entrypoints.api.schemas import ApiSchema, FieldFault, PageQuery, Time, choice, cursor, event_type, page_of
from app.errors import InvalidError, refuse
from app.models import Event
from app.paging import Cursor, Page

MAX_DELIVERIES_SHOWN = 200

blp = ApiBlueprint(
    "events", __name__, url_prefix="/api/events", scope="events", group="events", description="What happened."
)


class EventAccepted(ApiSchema):
    """The event is written down; everything else follows by itself. Of a duplicate this is the first one's id."""

    id = fields.String(required=True)
    status = fields.String(required=True)
    duplicate = fields.Boolean(metadata={"description": "true: an event with this dedupe key came before."})


class BatchItem(ApiSchema):
    """An event of the batch that was accepted."""

    index = fields.Integer(required=True)
    id = fields.String(required=True)
    duplicate = fields.Boolean(metadata={"description": "true: an event with this dedupe key came before."})


class BatchFault(ApiSchema):
    """An event of the batch that was refused."""

    index = fields.Integer(required=True)
    code = fields.String(required=True)
    errors = fields.List(fields.Nested(FieldFault), required=True)


class BatchAccepted(ApiSchema):
    """What became of each event."""

    items = fields.List(fields.Nested(BatchItem), required=True)
    errors = fields.List(fields.Nested(BatchFault), required=True)


class EventFilter(PageQuery):
    """Which events."""

    event_type = event_type()
    status = choice(*events.STATUSES)
    since = Time(metadata={"description": "Accepted at or after."})
    until = Time(metadata={"description": "Accepted before."})


class EventOut(ApiSchema):
    """An event, without its data."""

    id = fields.String(required=True)
    event_type = fields.String(required=True)
    status = fields.String(required=True)
    test = fields.Boolean(required=True)
    occurred_at = Time(required=True)
    created_at = Time(required=True)
    planned_at = Time(allow_none=True)
    error = fields.String(allow_none=True)
    priority = fields.String(attribute="lane", required=True)
    expires_at = Time(allow_none=True)


class NoteOut(ApiSchema):
    """Why a rule was passed over, and for how many people."""

    rule_id = fields.String(attribute="ruleId", allow_none=True)
    reason = fields.String()
    count = fields.Integer()


class DedupeOut(ApiSchema):
    """How often an event was posted again. Nulls: too long ago to say, or the key stands for another event now."""

    key = fields.String(required=True)
    until = Time(allow_none=True)
    duplicates = fields.Integer(allow_none=True)
    last_duplicate_at = Time(allow_none=True)


class ProgressOut(ApiSchema):
    """How far an event has come. `finished`: all deliveries are made. A person on two lists counts twice.

    Deliveries are those of `countedAt`: what takes long to count is not counted at each look.
    """

    finished = fields.Boolean(required=True)
    people = fields.Integer(required=True)
    people_planned = fields.Integer(required=True)
    planned = fields.Integer(required=True)
    sent = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    pending = fields.Integer(required=True)
    counted_at = Time(required=True)


class EventWhole(EventOut):
    """An event with what came of it. With `moreDeliveries` these are the newest; all: GET /api/deliveries?eventId=."""

    data = fields.Dict(required=True)
    user_ids = fields.List(fields.String(), required=True)
    topics = fields.List(fields.String(), required=True)
    notes = fields.List(fields.Nested(NoteOut), required=True)
    dedupe = fields.Nested(DedupeOut, required=True, allow_none=True)
    progress = fields.Nested(ProgressOut, required=True)
    delivery_counts = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    deliveries = fields.List(fields.Nested(DeliveryOut), required=True)
    more_deliveries = fields.Boolean(required=True)


@blp.route("", methods=["POST"])
@blp.arguments(EventIn)
@admits(lambda event: [event.lane])
@blp.creates(202, EventAccepted, light=True)
def post_event(session: Session, event: pipeline.EventInput) -> dict[str, Any]:
    """Post one event."""
    who = caller()
    refuse(pipeline.faults(session, runtime(), who.tenant_id, [event]).get(0, {}))
    (accepted,) = pipeline.accept_events(session, runtime(), who.tenant_id, [event], test=who.test)
    return {"status": "received", **_told(accepted)}


@blp.route("/batch", methods=["POST"])
@blp.arguments(BatchIn)
@admits(lambda batch: [event.lane for event in batch["events"][0].values()])
@blp.creates(202, BatchAccepted, light=True)
def post_events(session: Session, batch: dict[str, Any]) -> dict[str, Any]:
    """Post up to a thousand events. Each is judged alone; when all are bad the answer is a 422."""
    who, (good, bad) = caller(), batch["events"]
    found = pipeline.faults(session, runtime(), who.tenant_id, list(good.values()))
    places = list(good)
    bad = bad | {places[index]: faults for index, faults in found.items()}
    good = {index: event for index, event in good.items() if index not in bad}
    if not good:
        raise InvalidError({f"events.{i}.{path}": why for i, faults in bad.items() for path, why in faults.items()})
    accepted = pipeline.accept_events(session, runtime(), who.tenant_id, list(good.values()), test=who.test)
    faults = [
        {
            "index": index,
            "code": InvalidError.code,
            "errors": [{"field": path, "message": why} for path, why in found.items()],
        }
        for index, found in sorted(bad.items())
    ]
    items = [{"index": index, **_told(item)} for index, item in zip(good, accepted, strict=True)]
    return {"items": items, "errors": faults}


def _told(accepted: pipeline.Accepted) -> dict[str, Any]:
    return {"id": accepted.id} | ({"duplicate": True} if accepted.duplicate else {})


@blp.route("")
@blp.arguments(EventFilter, location="query")
@blp.response(200, page_of(EventOut))
def list_events(query: dict[str, Any]) -> Page[Event]:
    """List events, newest first."""
    at = cursor(query)
    with transaction(read_only=True) as session:
        return events.search(session, caller().tenant_id, at, **query)


@blp.route("/<event_id>")
@blp.response(200, EventWhole)
def get_event(event_id: str) -> dict[str, Any]:
    """Read one event with its deliveries and the reasons of rules that were passed over."""
    tenant_id = caller().tenant_id
    with transaction(read_only=True) as session:
        found = events.get(session, tenant_id, event_id)
        shown = events.shown(found)
        newest = records.search(session, tenant_id, Cursor(MAX_DELIVERIES_SHOWN), event_id=found.id)
        shown |= {"deliveries": newest.items, "more_deliveries": newest.next_cursor is not None}
        counted = records.counts(session, tenant_id, found.id, runtime().clock.now())
        shown |= {"delivery_counts": counted.counts, "progress": events.progress(session, found, counted)}
        return shown | {"dedupe": dedupes.record(session, found)}
