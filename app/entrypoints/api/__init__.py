"""The REST doors: one blueprint and its schemas per resource. `install` puts them all up."""

from __future__ import annotations

from flask import Flask

from app.core.runtime import Runtime
from app.entrypoints.api import (
    admission,
    api_keys,
    deliveries,
    erasures,
    events,
    gate,
    notifications,
    openapi,
    preferences,
    problems,
    recipients,
    rules,
    send,
    signing_keys,
    templates,
    topics,
    webhooks,
)
from app.entrypoints.api.common import EXTENSION, ApiBlueprint, Doors
from app.entrypoints.api.limits import RateLimiter
from app.entrypoints.api.waiting import Waiting
from app.entrypoints.auth import Authenticator

BLUEPRINTS: tuple[ApiBlueprint, ...] = (
    events.blp,
    send.blp,
    notifications.blp,
    preferences.blp,
    preferences.defaults_blp,
    deliveries.blp,
    recipients.blp,
    erasures.blp,
    topics.blp,
    rules.blp,
    templates.blp,
    webhooks.blp,
    webhooks.own_blp,
    api_keys.blp,
    signing_keys.blp,
)


def install(app: Flask, runtime: Runtime) -> Doors:
    """Put the gate, the faults, the document and every resource into `app`."""
    authenticator = Authenticator(runtime.db, runtime.vault, runtime.clock)
    doors = Doors(runtime, authenticator, RateLimiter(runtime.settings), {}, Waiting(runtime.settings.web_threads))
    app.extensions[EXTENSION] = doors
    app.url_map.converters["user_id"] = recipients.UserIdConverter
    problems.install(app)
    gate.install(app)
    admission.install(app, runtime)
    api = openapi.install(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
        doors.access.update(blueprint.access)
    return doors
