"""GET /: what this is, where things are, and a line to try."""

from __future__ import annotations

import shlex

from flask import Blueprint, Flask, Response, current_app

from app.config import Settings
from app.core.runtime import Runtime
from app.entrypoints.web import admission, policy

# Broken into lines for the eye; JSON and the shell's single quotes let line ends pass.
_EVENT = """{
    "eventType": "order.created",
    "recipients": [{"userId": "ada", "name": "Ada",
      "email": "ada@example.com", "phone": "+15005550006"}],
    "data": {"orderId": "A-1001", "total": 49.9, "currency": "EUR"}
  }"""

blp = Blueprint("home", __name__)


def install(app: Flask) -> None:
    """Register the welcome page."""
    app.register_blueprint(blp)


@blp.get("/")
def welcome() -> Response:
    """The page. It names the catcher only to those who may look at it."""
    runtime: Runtime = current_app.extensions["tidings"]
    catcher = runtime.settings.catches and admission.admitted()
    return policy.page("pages/home.html", curl=curl_line(runtime.settings), catcher=catcher)


def curl_line(settings: Settings) -> str:
    """A shell command that posts an event which the seeded rules answer; the key comes from the environment."""
    lines = [
        f"curl {shlex.quote(settings.base_url + '/api/events')}",
        '-H "Authorization: Bearer $TIDINGS_API_KEY"',
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(_EVENT)}",
    ]
    return " \\\n  ".join(lines)
