"""What providers post to us. Nobody authenticates here: each provider's signature is checked."""

from __future__ import annotations

from flask import Flask

from app.core.runtime import Runtime
from app.entrypoints.callbacks import twilio


def install(app: Flask, runtime: Runtime) -> None:
    """Register the callbacks of the providers that are set up."""
    if runtime.settings.twilio_auth_token:
        app.register_blueprint(twilio.blueprint(runtime))
