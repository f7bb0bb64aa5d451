"""Pages for people: the welcome page, and the catcher with what would have gone out by email and SMS.

No page has a script or a style of its own inside it; assets are files of this folder; nothing comes from elsewhere.
"""

from __future__ import annotations

from flask import Blueprint, Flask

from app.core.runtime import Runtime
from app.entrypoints.web import admission, home, outbox


def install(app: Flask, runtime: Runtime) -> None:
    """Register the pages. Those of the catcher exist only where the settings let it catch."""
    files = Blueprint("web", __name__, template_folder="templates", static_folder="static", static_url_path="/assets")
    app.register_blueprint(files)
    home.install(app)
    if runtime.settings.catches:
        admission.install(app)
        outbox.install(app)
