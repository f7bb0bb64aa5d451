"""Twilio's status callbacks: what became of an SMS."""

from __future__ import annotations

import structlog
from flask import Blueprint, Response, request

from app.core import channels
from app.core.deliveries import status
from app.core.runtime import Runtime
from app.errors import ForbiddenError
from providers.webhook.signature import InvalidSignature

log = structlog.get_logger()


def blueprint(runtime: Runtime) -> Blueprint:
    """POST /callbacks/twilio/status?delivery=<id>."""
    blp = Blueprint("twilio", __name__, url_prefix="/callbacks/twilio")
    twilio = channels.twilio(runtime.settings, runtime.clock)

    @blp.post("/status")
    def sms_status() -> Response:
        """Move a delivery on. 204 also for one that we do not know: to try again would not help.

        The URL that was signed is built from our public address, never from the Host header.
        https://www.twilio.com/docs/usage/webhooks/webhooks-security
        """
        query = request.query_string.decode("ascii", "replace")
        url = f"{runtime.settings.base_url}{request.path}" + (f"?{query}" if query else "")
        try:
            said = twilio.parse_status(url, request.form, request.headers.get("X-Twilio-Signature", ""))
        except InvalidSignature:
            log.warning("callback_refused", provider="twilio")
            raise ForbiddenError("The signature does not fit.", code="invalid_signature") from None
        if said is not None:
            status.apply(runtime, said)
        return Response(status=204)

    return blp
