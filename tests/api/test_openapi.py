"""The document says what the routes do; the page that shows it fetches nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any


def test_every_operation_is_described(app: Any, client: Any) -> None:
    document = client.get("/openapi.json").json

    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Tidings"
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "basic", "person"}
    described = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            described.add((method.upper(), path))
            assert operation["summary"], (method, path)
            default = operation["responses"]["default"]["$ref"].rsplit("/", 1)[1]
            assert "application/problem+json" in document["components"]["responses"][default]["content"]
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == routes


def test_creating_routes_take_an_idempotency_key(client: Any) -> None:
    paths = client.get("/openapi.json").json["paths"]

    for path in ("/api/events", "/api/events/batch", "/api/send/email", "/api/api-keys", "/api/rules"):
        names = [parameter.get("name") for parameter in paths[path]["post"].get("parameters", [])]
        assert "Idempotency-Key" in names, path


def test_a_body_that_may_be_left_out_is_not_required(client: Any) -> None:
    paths = client.get("/openapi.json").json["paths"]

    for path in (
        "webhooks/configurations/{configuration_id}/test",
        "notifications/test",
        "templates/{template_id}/preview",
    ):
        assert not paths[f"/api/{path}"]["post"]["requestBody"]["required"], path
    assert paths["/api/templates/preview"]["post"]["requestBody"]["required"]


def test_fields_are_named_in_camel_case(client: Any) -> None:
    schemas = client.get("/openapi.json").json["components"]["schemas"]

    for name, schema in schemas.items():
        for field in schema.get("properties", {}):
            assert "_" not in field, (name, field)


def test_the_page_needs_nothing_from_elsewhere(client: Any) -> None:
    page = client.get("/docs")

    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        found = client.get(asset)
        assert found.status_code == 200, asset
        found.close()
    assert client.get("/docs/../app/__init__.py").status_code == 404
    assert client.get("/docs/LICENSE").status_code == 404


def test_times_and_addresses_say_their_form(client: Any) -> None:
    schemas = client.get("/openapi.json").json["components"]["schemas"]

    assert schemas["EventIn"]["properties"]["occurredAt"] == {
        "type": "string",
        "format": "date-time",
        "description": "Default: now.",
    }
    one, several = schemas["EmailIn"]["properties"]["to"]["anyOf"]
    assert one["examples"] == ["Ada <ada@example.com>"]
    assert several["items"] == one
    assert schemas["EmailIn"]["required"] == ["subject", "to"]
