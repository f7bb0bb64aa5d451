"""How urgent something is: the lane it waits in, and until when it is worth sending."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields

from app.core.outbox import Lane
from app.core.rules import MAX_ORDER
from app.entrypoints.api.schemas import Time, choice

LANES = tuple(lane.value for lane in Lane)


def priority(default: Lane) -> fields.String:
    """transactional, normal or bulk: what waits in one lane does not wait for another's."""
    about = f"The lane it waits in. Default: {default.value}."
    return choice(*LANES, load_default=default.value, metadata={"description": about})


def expires_at() -> Time:
    """When it is too late to be sent."""
    return Time(metadata={"description": "What is not sent by then is skipped, with the reason `expired`."})


class RulePriority(fields.Field[str | int | None]):
    """The lane of a rule's deliveries. A whole number is taken too: it was the rule's `order` once."""

    def __init__(self) -> None:
        about = "The lane of its deliveries; null: the event's. A whole number counts as `order`."
        number = {"type": "integer", "minimum": -MAX_ORDER, "maximum": MAX_ORDER}
        word = {"type": "string", "enum": list(LANES)}
        metadata = {"anyOf": [word, number, {"type": "null"}], "description": about}
        super().__init__(allow_none=True, metadata=metadata)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str | int:
        if type(value) is int:
            if abs(value) > MAX_ORDER:
                raise ValidationError(f"is not between {-MAX_ORDER} and {MAX_ORDER}")
            return value
        if value not in LANES:
            raise ValidationError(f"is none of {', '.join(LANES)}")
        return str(value)
