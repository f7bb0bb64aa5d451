"""The OpenAPI 3.1 document at /openapi.json, made from the schemas, and the page at /docs that shows it.

The page's assets are the wheel's own: nothing is fetched from elsewhere, and no script stands in the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask_swagger_ui
from flask import Blueprint, Flask, Response, send_from_directory
from flask_smorest import Api
from marshmallow import fields

from app.entrypoints.api import problems
from app.entrypoints.api.schemas import ApiSchema, FieldFault, Time

_ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
_SERVED = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "index.css"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidings API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: false,
  validatorUrl: null, presets: [SwaggerUIBundle.presets.apis]
});
"""
_ABOUT = """Post an event; rules, preferences and templates decide who hears of it, where and in what words.

Services authenticate with an API key, people with a token that a service signed. Every fault is
`application/problem+json` with a stable `code`. Lists are cursor-paged: pass `nextCursor` as `after`.
"""


class Problem(ApiSchema):
    """A fault, by RFC 9457."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True, metadata={"description": "Stable; meant for machines."})
    errors = fields.List(fields.Nested(FieldFault))
    request_id = fields.String(metadata={"description": "Only for faults of ours: what to look for in the log."})


class TidingsApi(Api):  # type: ignore[misc]
    """flask-smorest's Api with our faults."""

    ERROR_SCHEMA = Problem

    def _register_error_handlers(self) -> None:
        """None: `problems` has registered ours."""

    def _register_pagination_header(self) -> None:
        """None: our pages have cursors."""

    def _register_responses(self) -> None:
        super()._register_responses()
        for response in self.spec.components.responses_lazy.values():
            content = response.get("content", {})
            if "application/json" in content:
                content[problems.MEDIA_TYPE] = content.pop("application/json")


def install(app: Flask) -> Api:
    """Make the document and its page. Blueprints register with what this returns."""
    app.config.update(
        API_TITLE="Tidings",
        API_VERSION="1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    schemes: dict[str, Any] = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: tdg_live_… or tdg_test_…"},
        "basic": {"type": "http", "scheme": "basic", "description": "An API key as the password; any user name."},
        "person": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A person's token."},
    }
    api = TidingsApi(
        app,
        spec_kwargs={
            "info": {"description": _ABOUT},
            "components": {"securitySchemes": schemes},
            "security": [{name: []} for name in schemes],
        },
    )
    api.register_field(Time, "string", "date-time")
    app.register_blueprint(_docs())
    return api


def _docs() -> Blueprint:
    docs = Blueprint("docs", __name__, url_prefix="/docs")

    @docs.get("", strict_slashes=False)
    def page() -> Response:
        return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})

    @docs.get("/start.js")
    def start() -> Response:
        return Response(_START, mimetype="text/javascript")

    @docs.get("/<name>")
    def asset(name: str) -> Response:
        return send_from_directory(_ASSETS, name if name in _SERVED else "-", max_age=86_400)

    return docs
