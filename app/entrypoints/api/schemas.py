"""What all API schemas share: camelCase names, unknown fields refused, times in RFC 3339.

Write a schema as a class of `ApiSchema` with snake_case fields; `on_bind_field` gives each its camelCase name.
Unstorable text and numbers need no check here: the parser has refused them before (`parsing`). A field with
`secret()` is shown once and left out of a stored answer. Lists take `PageQuery` (subclass it for filters) and
answer with `page_of(ItemSchema)`. `PersonQuery` is for routes that belong to a person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from app.models.base import utc_text
from app.paging import Cursor
from providers.contract import Channel

Judge = Callable[[Mapping[str, Any]], Mapping[str, str]]
"""Those fields of a body that the schema let pass -> {path: what is wrong with them}."""

CHANNELS = tuple(channel.value for channel in Channel)
MOST_UNKNOWN = 100
EVENT_TYPE = r"^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*\Z"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
EARLIEST = datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)  # a day before the end of the calendar: no time zone leads beyond it
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


def camel(name: str) -> str:
    """`created_at` -> `createdAt`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class ApiSchema(Schema):
    """The root of all schemas of the API."""

    error_messages = {"unknown": "is not known", "type": "is not an object"}  # noqa: RUF012
    judges_alone = False
    """Whether the schema looks for unstorable values itself."""
    may_be_absent = False
    """Whether a request without a body counts as one with {}. Set by `ApiBlueprint.arguments`."""
    judge: Judge | None = None
    """What core says of the fields that passed when others did not. Set by `ApiBlueprint.arguments`."""

    class Meta:
        unknown = RAISE

    def load(self, data: Any, **options: Any) -> Any:
        """As marshmallow's; unknown names by the thousand are refused before a fault is made for each."""
        if isinstance(data, Mapping) and len(data) > len(self.load_fields) + MOST_UNKNOWN:
            known = {item.data_key for item in self.load_fields.values()}
            unknown = islice((name for name in data if name not in known), MOST_UNKNOWN)
            raise ValidationError({name: [self.error_messages["unknown"]] for name in unknown})
        return super().load(data, **options)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give the field its name in JSON, and our words for what is missing or null."""
        field_obj.data_key = field_obj.data_key or camel(field_name)
        field_obj.error_messages.update(required="is required", null="is null")


class Time(fields.Field[datetime]):
    """A moment: RFC 3339 with an offset comes in, RFC 3339 in UTC goes out. From 1970 on.

    What lies later than LATEST is taken for it, so that there is room to reckon with every moment.
    """

    def _serialize(self, value: datetime | None, *_args: Any, **_kwargs: Any) -> str | None:
        return None if value is None else utc_text(value)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> datetime:
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            raise ValidationError("is not a time with an offset, as 2026-11-20T08:00:00Z (RFC 3339)")
        try:
            moment = datetime.fromisoformat(_six_digits(value.upper())).astimezone(UTC)
        except ValueError:
            raise ValidationError("is not a moment of the calendar") from None
        except OverflowError:  # its offset leads beyond the calendar, at the one end or the other
            moment = LATEST if value.startswith("9") else EARLIEST
        if moment <= EARLIEST:
            raise ValidationError("lies before 1970")
        return min(moment, LATEST)


def _six_digits(value: str) -> str:
    return _FRACTION.sub(lambda found: f".{found[1]:0<6}", value)


def text(most: int, *, least: int = 1, pattern: str | None = None, hint: str = "", **options: Any) -> fields.String:
    """A text field of `least` to `most` characters. `hint` says what `pattern` wants."""
    validators: list[Any] = [validate.Length(least, most, error=f"must be {least} to {most} characters long")]
    if pattern:
        validators.append(validate.Regexp(pattern, error=hint or "does not have the right form"))
    return fields.String(validate=validators, error_messages={"invalid": "is not text"}, **options)


def choice(*values: str, **options: Any) -> fields.String:
    """One of a few words."""
    judge = validate.OneOf(values, error=f"is none of {', '.join(values)}")
    return fields.String(validate=judge, error_messages={"invalid": "is not text"}, **options)


def whole(least: int, most: int, **options: Any) -> fields.Integer:
    """An integer of JSON (no text, no 1.0) from `least` to `most`."""
    judge = validate.Range(least, most, error=f"is not between {least} and {most}")
    return fields.Integer(strict=True, validate=judge, error_messages={"invalid": "is not a whole number"}, **options)


def flag(**kwargs: Any) -> fields.Boolean:
    """true or false in a query, in the usual spellings."""
    return fields.Boolean(error_messages={"invalid": "is neither true nor false"}, **kwargs)


class StrictBoolean(fields.Boolean):
    """true or false of JSON; no words that mean the same."""

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("is neither true nor false")
        return value


class JsonObject(fields.Dict):
    """A JSON object with free content."""

    default_error_messages = {"invalid": "is not an object"}  # noqa: RUF012


class PlacedList(fields.List[Any]):
    """A list that keeps everything in its place when some items are refused: of these, what passed, or None.

    One that is too long for `judge` is refused before its items are looked at.
    """

    def __init__(self, inner: fields.Field[Any], judge: validate.Length, **options: Any) -> None:
        super().__init__(inner, validate=judge, **options)
        self._judge = judge

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if self._judge.max is not None and len(value) > self._judge.max:
            self._judge(value)
        found, faults = [], {}
        for index, item in enumerate(value):
            try:
                found.append(self.inner.deserialize(item))
            except ValidationError as error:
                found.append(error.valid_data)
                faults[index] = error.messages
        if faults:
            raise ValidationError(faults, valid_data=found)
        return found


def many(inner: fields.Field[Any], *, least: int = 0, most: int, **options: Any) -> PlacedList:
    """A list of `least` to `most` items."""
    judge = validate.Length(least, most, error=f"must have {least} to {most} items")
    return PlacedList(inner, judge, error_messages={"invalid": "is not a list"}, **options)


def event_type(**options: Any) -> fields.String:
    """The name of an event type: words of letters, digits, `_` and `-`, joined by dots."""
    hint = "must be words of letters, digits, _ and -, joined by dots"
    return text(255, pattern=EVENT_TYPE, hint=hint, **options)


def user_id(**options: Any) -> fields.String:
    """The caller's own name for a person: 1 to 255 printable characters."""
    length = validate.Length(1, 255, error="must be 1 to 255 characters long")
    return fields.String(validate=[length, _printable], error_messages={"invalid": "is not text"}, **options)


def _printable(value: str) -> None:
    if not value.isprintable():
        raise ValidationError("holds a control character")


def channel(**options: Any) -> fields.String:
    """email, sms, webhook or in_app."""
    return choice(*CHANNELS, **options)


def secret(**options: Any) -> fields.String:
    """A text that is shown once: it is left out of stored answers."""
    return fields.String(metadata={"secret": True, **options.pop("metadata", {})}, **options)


def secrets_of(schema: Schema) -> frozenset[str]:
    """The JSON names of a schema's secret fields."""
    return frozenset(str(f.data_key) for f in schema.fields.values() if f.metadata.get("secret"))


class FieldFault(ApiSchema):
    """One field that is wrong."""

    field = fields.String(required=True, metadata={"description": "Path of the field, as `recipients.0.email`."})
    message = fields.String(required=True)


class PageQuery(ApiSchema):
    """`?limit=` and `?after=`. Subclass it to add filters; `cursor(query)` takes its two out."""

    limit = fields.Integer(
        load_default=50,
        validate=validate.Range(1, 200, error="is not between 1 and 200"),
        error_messages={"invalid": "is not a whole number"},
        metadata={"description": "How many items at most."},
    )
    after = fields.String(metadata={"description": "The `nextCursor` of the page before."})


def cursor(query: dict[str, Any]) -> Cursor:
    """Take `limit` and `after` out of a loaded PageQuery; what stays in it are the filters. Raises InvalidError."""
    return Cursor(query.pop("limit"), query.pop("after", None))


class PersonQuery(ApiSchema):
    """`?userId=`: services name the person with it; a person may only name themselves. See `common.person_of`."""

    user_id = user_id(metadata={"description": "Whose. Needed with an API key; a person's token says it itself."})


@lru_cache(maxsize=64)
def page_of(item: type[Schema]) -> type[Schema]:
    """The schema of a page of `item`: {"items": […], "nextCursor": … | null}. Views return an `app.paging.Page`."""
    name = item.__name__.removesuffix("Out") + "Page"
    members: Mapping[str, Any] = {
        "items": fields.List(fields.Nested(item), required=True),
        "next_cursor": fields.String(required=True, allow_none=True),
        "__doc__": f"Some {item.__name__} items, and the mark to go on from.",
    }
    return type(name, (ApiSchema,), dict(members))
