"""A delivery's words as the message that a provider is handed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app import tracing
from app.core.deliveries.claims import Claim
from app.core.runtime import Runtime
from app.core.webhooks import Endpoint
from providers.contract import Attachment, Channel, OutboundMessage, PermanentError

Parts = dict[str, Any]
"""What `DeliveryContent.parts` says."""


@dataclass(frozen=True, slots=True)
class Try:
    """What one try is made of. `endpoint`: the webhook configuration that it is for; without one a webhook is signed
    with the tenant's `own_secret`, sealed.
    """

    claim: Claim
    parts: Parts
    endpoint: Endpoint | None
    own_secret: str


def message(runtime: Runtime, one: Try) -> OutboundMessage:
    """The message of one try. Raises PermanentError when its configuration may not be sent to."""
    return _BUILDERS[Channel(one.claim.channel)](runtime, one)


def _email(_runtime: Runtime, one: Try) -> OutboundMessage:
    claim, parts = one.claim, one.parts
    attachments = tuple(
        Attachment(
            item["filename"],
            base64.b64decode(item["content"]),
            item.get("contentType") or "application/octet-stream",
            item.get("contentId"),
        )
        for item in parts.get("attachments") or ()
    )
    return OutboundMessage(
        claim.id,
        Channel.EMAIL,
        claim.address,
        claim.attempt,
        claim.created_at,
        subject=parts.get("subject", ""),
        text=parts.get("text") or "",
        html=parts.get("html") or "",
        sender=parts.get("sender"),
        reply_to=parts.get("replyTo"),
        cc=tuple(parts.get("cc") or ()),
        bcc=tuple(parts.get("bcc") or ()),
        headers=parts.get("headers") or {},
        attachments=attachments,
    )


def _sms(runtime: Runtime, one: Try) -> OutboundMessage:
    # A provider can only call back to an address that the operator has made public.
    public = runtime.settings.public_url
    callback = f"{public}/callbacks/twilio/status?delivery={one.claim.id}" if public else None
    return OutboundMessage(
        one.claim.id,
        Channel.SMS,
        one.claim.address,
        one.claim.attempt,
        one.claim.created_at,
        text=one.parts.get("text", ""),
        status_callback=callback,
    )


def _webhook(runtime: Runtime, one: Try) -> OutboundMessage:
    claim, endpoint = one.claim, one.endpoint
    url, sealed = claim.address, one.own_secret
    if claim.configuration_id:
        if endpoint is None:
            raise PermanentError("endpoint_deleted", "the webhook configuration was deleted")
        if not endpoint.enabled and claim.trigger == "event":
            raise PermanentError("endpoint_disabled", "the webhook configuration is disabled")
        url, sealed = endpoint.url, endpoint.secret
    return OutboundMessage(
        claim.id,
        Channel.WEBHOOK,
        url,
        claim.attempt,
        claim.created_at,
        payload=one.parts["payload"].encode(),
        secrets=(runtime.vault.open(sealed),),
        traceparent=tracing.of_attempt(claim.traceparent, claim.attempt_id),
    )


def _in_app(_runtime: Runtime, one: Try) -> OutboundMessage:
    claim, parts = one.claim, one.parts
    about = {
        "tenantId": claim.tenant_id,
        "eventId": claim.event_id,
        "eventType": claim.event_type,
        "type": parts.get("type"),
        "actionUrl": parts.get("actionUrl"),
    }
    return OutboundMessage(
        claim.id,
        Channel.IN_APP,
        claim.address or claim.user_id or "",
        claim.attempt,
        claim.created_at,
        subject=parts.get("title", ""),
        text=parts.get("text") or "",
        metadata=about,
    )


_BUILDERS: dict[Channel, Callable[[Runtime, Try], OutboundMessage]] = {
    Channel.EMAIL: _email,
    Channel.SMS: _sms,
    Channel.WEBHOOK: _webhook,
    Channel.IN_APP: _in_app,
}
