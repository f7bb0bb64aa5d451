"""Direct sends: words that the caller wrote, on the same road as every other delivery."""

from __future__ import annotations

import json
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema
from sqlalchemy.orm import Session

from app import tracing
from app.core import direct, inbox
from app.core.deliveries import records
from app.core.outbox import Lane
from app.entrypoints.api.admission import admits
from app.entrypoints.api.common import ApiBlueprint, caller, runtime
from app.entrypoints.api.deliveries import DeliveriesOut
from app.entrypoints.api.schemas import ApiSchema, choice, event_type, user_id
from app.entrypoints.api.schemas import text as words
from app.entrypoints.api.send_fields import (
    MAX_COPIED,
    MAX_TO,
    Attachments,
    Headers,
    Link,
    Mailbox,
    OneOrMany,
    Phone,
    TargetUrl,
)
from app.entrypoints.api.urgency import expires_at, priority
from providers.contract import Channel

MAX_TEXT = 1_000_000
MAX_SMS = 1_600
MAX_TITLE = 255
MAX_MESSAGE = 10_000
MAX_COPIES = 50

blp = ApiBlueprint(
    "send", __name__, url_prefix="/api/send", scope="send", group="send", description="Send what you wrote, now."
)


class SendIn(ApiSchema):
    """What all direct sends share. With `userId` and `eventType` the person's preferences count."""

    user_id = user_id()
    event_type = event_type()
    priority = priority(Lane.TRANSACTIONAL)
    expires_at = expires_at()


class EmailIn(SendIn):
    """An email. Each address of `to` gets one of its own; `cc` and `bcc` ride on the first."""

    to = OneOrMany(Mailbox(), MAX_TO, required=True)
    subject = words(998, pattern=r"^[^\r\n]*\Z", hint="holds a line break", required=True)
    text = words(MAX_TEXT, least=0)
    html = words(MAX_TEXT, least=0)
    sender = Mailbox(data_key="from")
    reply_to = Mailbox()
    cc = OneOrMany(Mailbox(), MAX_COPIES)
    bcc = OneOrMany(Mailbox(), MAX_COPIES)
    attachments = Attachments()
    headers = Headers()

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _has_words(self, _data: dict[str, Any], given: Any, **_kwargs: Any) -> None:
        if isinstance(given, dict) and not given.get("text") and not given.get("html"):
            raise ValidationError("is required, unless html is there", "text")

    @validates_schema
    def _is_storable(self, data: dict[str, Any], **_kwargs: Any) -> None:
        files = sum(len(file["content"]) for file in data.get("attachments", ()))
        size = files + sum(len(data.get(name, "").encode()) for name in ("text", "html"))
        copies = len(data["to"])
        if size * copies > MAX_COPIED:
            why = f"make {size * copies} bytes for {copies} addresses, more than {MAX_COPIED}: send to fewer at once"
            raise ValidationError(why, "attachments" if files else "to")

    @post_load
    def as_send(self, data: dict[str, Any], **_kwargs: Any) -> direct.DirectSend:
        """What `direct` takes."""
        parts = {"replyTo": data.get("reply_to")}
        names = ("subject", "text", "html", "sender", "cc", "bcc", "attachments", "headers")
        parts.update({name: data.get(name) for name in names})
        return _direct(Channel.EMAIL, data["to"], {name: value for name, value in parts.items() if value}, data)


class SmsIn(SendIn):
    """A short message. Each number of `to` gets one."""

    to = OneOrMany(Phone(), MAX_TO, required=True)
    message = words(MAX_SMS, required=True)

    @post_load
    def as_send(self, data: dict[str, Any], **_kwargs: Any) -> direct.DirectSend:
        """What `direct` takes."""
        return _direct(Channel.SMS, data["to"], {"text": data["message"]}, data)


class WebhookIn(SendIn):
    """A call of a URL. The payload is sent as it stands, signed with the tenant's own webhook secret."""

    url = TargetUrl(required=True)
    payload = fields.Raw(required=True, allow_none=True, metadata={"description": "Any JSON."})

    @post_load
    def as_send(self, data: dict[str, Any], **_kwargs: Any) -> direct.DirectSend:
        """What `direct` takes."""
        payload = json.dumps(data["payload"], ensure_ascii=False, separators=(",", ":"))
        return _direct(Channel.WEBHOOK, [data["url"]], {"payload": payload}, data)


class InAppIn(SendIn):
    """An item of a person's list."""

    user_id = user_id(required=True)
    title = words(MAX_TITLE, required=True)
    message = words(MAX_MESSAGE, required=True)
    type = choice(*inbox.TYPES, load_default="info")
    action_url = Link(metadata={"description": "A path such as /orders/7, or http(s)."})

    @post_load
    def as_send(self, data: dict[str, Any], **_kwargs: Any) -> direct.DirectSend:
        """What `direct` takes."""
        parts = {"title": data["title"], "text": data["message"], "type": data["type"]}
        if "action_url" in data:
            parts["actionUrl"] = data["action_url"]
        return _direct(Channel.IN_APP, [data["user_id"]], parts, data)


def _direct(channel: Channel, to: list[str], parts: dict[str, Any], data: dict[str, Any]) -> direct.DirectSend:
    lane, expires = Lane(data["priority"]), data.get("expires_at")
    person, kind = data.get("user_id"), data.get("event_type")
    return direct.DirectSend(channel, tuple(to), parts, person, kind, caller().test, lane, expires, tracing.current())


def _send(session: Session, message: direct.DirectSend) -> dict[str, Any]:
    tenant_id = caller().tenant_id
    ids = direct.send_direct(session, runtime(), tenant_id, message)
    return {"deliveries": records.these(session, tenant_id, ids)}


@blp.route("/email", methods=["POST"])
@blp.arguments(EmailIn)
@admits(lambda message: [message.lane])
@blp.creates(202, DeliveriesOut)
def send_email(session: Session, message: direct.DirectSend) -> dict[str, Any]:
    """Send an email."""
    return _send(session, message)


@blp.route("/sms", methods=["POST"])
@blp.arguments(SmsIn)
@admits(lambda message: [message.lane])
@blp.creates(202, DeliveriesOut)
def send_sms(session: Session, message: direct.DirectSend) -> dict[str, Any]:
    """Send an SMS."""
    return _send(session, message)


@blp.route("/webhook", methods=["POST"])
@blp.arguments(WebhookIn)
@admits(lambda message: [message.lane])
@blp.creates(202, DeliveriesOut)
def send_webhook(session: Session, message: direct.DirectSend) -> dict[str, Any]:
    """Call a URL."""
    return _send(session, message)


@blp.route("/in-app", methods=["POST"])
@blp.arguments(InAppIn)
@admits(lambda message: [message.lane])
@blp.creates(202, DeliveriesOut)
def send_in_app(session: Session, message: direct.DirectSend) -> dict[str, Any]:
    """Put an item into a person's list."""
    return _send(session, message)
