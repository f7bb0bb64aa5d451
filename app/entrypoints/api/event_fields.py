"""What an event looks like when it comes in: its schema, and the fields that are only its own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from flask import request
from marshmallow import Schema, ValidationError, fields, post_load, validates

from app import rows, tracing
from app.core import dedupes, recipients
from app.core.dedupes import Dedupe
from app.core.events import MAX_DATA_BYTES
from app.core.names import TOPIC_FORM
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.entrypoints.api.common import runtime
from app.entrypoints.api.parsing import MOST_ERRORS, faults_of, flatten
from app.entrypoints.api.schemas import ApiSchema, JsonObject, Time, event_type, many, text, user_id, whole
from app.entrypoints.api.urgency import expires_at, priority
from app.errors import InvalidError

MAX_BATCH = 1_000
MAX_TOPICS = 20
_PERSON = {
    "userId": "user_id",
    "name": "name",
    "email": "email",
    "phone": "phone",
    "locale": "locale",
    "timeZone": "time_zone",
    "attributes": "attributes",
}
_PERSON_SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["userId"],
    "additionalProperties": False,
    "properties": {
        **{name: {"type": ["string", "null"]} for name in _PERSON if name not in ("userId", "attributes")},
        "userId": {"type": "string", "minLength": 1, "maxLength": recipients.MAX_USER_ID},
        "attributes": {"type": ["object", "null"]},
    },
}


class RecipientList(fields.Field[tuple[list[str], list[dict[str, Any]]]]):
    """People by their ids, or inline, mixed: (ids, people to be saved)."""

    def __init__(self) -> None:
        text = {"type": "string", "minLength": 1, "maxLength": recipients.MAX_USER_ID}
        about = "User ids, or people, who are saved: absent fields stay as they are, null clears."
        metadata = {"type": "array", "items": {"anyOf": [text, _PERSON_SPEC]}, "description": about}
        super().__init__(metadata=metadata)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> tuple[list[str], list[dict[str, Any]]]:
        if not isinstance(value, list):
            raise ValidationError("is not a list")
        most = runtime().settings.max_recipients
        if len(value) > most:
            raise ValidationError(f"names more than {most} recipients")
        ids: list[str] = []
        people: list[dict[str, Any]] = []
        faults: dict[str, str] = {}
        for index, item in enumerate(value):
            try:
                if isinstance(item, str):
                    ids.append(_id(item, str(index)))
                else:
                    people.append(_person(item, index))
            except InvalidError as error:
                faults.update(error.fields)
                if len(faults) >= MOST_ERRORS:
                    break
        if faults:
            raise ValidationError({path: [why] for path, why in faults.items()})
        return ids, people


def _person(item: Any, index: int) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidError({str(index): "is neither a user id nor a person"})
    known = {_PERSON[name]: value for name, value in item.items() if name in _PERSON}
    if len(known) == len(item) and "user_id" in known:
        return recipients.checked(known, f"{index}.")
    unknown = (name for name in item if name not in _PERSON)
    found = dict.fromkeys(islice(unknown, MOST_ERRORS), "is not known")
    found |= {} if "user_id" in known else {"userId": "is required"}
    found |= recipients.faults(known)
    raise InvalidError({f"{index}.{name}": why for name, why in found.items()})


class EventData(JsonObject):
    """The data of an event, up to MAX_DATA_BYTES of JSON."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        found: Any = super()._deserialize(value, *args, **kwargs)  # type: ignore[no-untyped-call]
        # Only a request that is larger than the limit can hold data that are.
        large = (request.content_length or MAX_DATA_BYTES) >= MAX_DATA_BYTES
        if large and len(rows.dumps(found).encode()) > MAX_DATA_BYTES:
            raise ValidationError(f"is more than {MAX_DATA_BYTES} bytes of JSON")
        return found


class DedupeIn(ApiSchema):
    """When the same thing is posted again, by whomever, it is one event."""

    key = text(dedupes.MAX_KEY, required=True, metadata={"description": "Your own name for what happened."})
    window = whole(1, dedupes.MAX_WINDOW, metadata={"description": "Seconds. Default: DEDUPE_WINDOW."})

    @validates("key")
    def _printable(self, value: str, **_kwargs: Any) -> None:
        if not value.isprintable():
            raise ValidationError("holds a control character")


def topic() -> fields.String:
    """The name of a topic."""
    return text(100, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*\Z", hint=f"is not {TOPIC_FORM}")


class EventIn(ApiSchema):
    """Something that happened. Without `userId`, `recipients` and `topics` only webhooks hear of it."""

    event_type = event_type(required=True)
    user_id = user_id(metadata={"description": "The one person it is about."})
    recipients = RecipientList()
    data = EventData(load_default=dict, metadata={"description": f"At most {MAX_DATA_BYTES} bytes of JSON."})
    occurred_at = Time(metadata={"description": "Default: now."})
    topics = many(topic(), most=MAX_TOPICS, metadata={"description": "Names of lists whose people hear of it too."})
    priority = priority(Lane.NORMAL)
    expires_at = expires_at()
    dedupe = fields.Nested(DedupeIn)

    @post_load
    def as_input(self, data: dict[str, Any], **_kwargs: Any) -> EventInput:
        """What the pipeline takes."""
        ids, people = data.get("recipients", ((), ()))
        if "user_id" in data:
            ids = [data["user_id"], *ids]
        again = data.get("dedupe")
        return EventInput(
            data["event_type"],
            data["data"],
            tuple(ids),
            tuple(people),
            data.get("occurred_at"),
            Lane(data["priority"]),
            data.get("expires_at"),
            tuple(data.get("topics", ())),
            Dedupe(again["key"], again.get("window", runtime().settings.dedupe_window)) if again else None,
            tracing.current(),
        )


def _id(found: str, path: str) -> str:
    try:
        return str(recipients.checked({"user_id": found})["user_id"])
    except InvalidError as error:
        raise InvalidError({path: next(iter(error.fields.values()))}) from None


_event: Schema = EventIn()


class JudgedList(fields.Field[tuple[dict[int, EventInput], dict[int, dict[str, str]]]]):
    """Events, each judged alone: ({index: event}, {index: {path: what is wrong}})."""

    def __init__(self) -> None:
        reference = {"$ref": "#/components/schemas/EventIn"}
        metadata = {"type": "array", "items": reference, "minItems": 1, "maxItems": MAX_BATCH}
        super().__init__(required=True, metadata=metadata)

    def _deserialize(
        self, value: Any, *_args: Any, **_kwargs: Any
    ) -> tuple[dict[int, EventInput], dict[int, dict[str, str]]]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
            raise ValidationError(f"is not a list of 1 to {MAX_BATCH} events")
        good: dict[int, EventInput] = {}
        bad: dict[int, dict[str, str]] = {}
        told = 0
        for index, item in enumerate(value):
            try:
                faults = faults_of(item)
                if faults:
                    bad[index] = faults
                else:
                    good[index] = _event.load(item)
            except ValidationError as error:
                bad[index] = flatten(error.messages)
            if index in bad:  # once a hundred faults are told, each further event tells its first
                bad[index] = dict(islice(bad[index].items(), max(1, MOST_ERRORS - told)))
                told += len(bad[index])
        return good, bad


class BatchIn(ApiSchema):
    """Up to a thousand events."""

    judges_alone = True  # one bad number must not refuse the other events

    events = JudgedList()
