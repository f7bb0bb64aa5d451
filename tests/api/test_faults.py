"""Bad input is told of at once, one entry per field, whoever finds it: the schema or core."""

from __future__ import annotations

from typing import Any

import pytest

HOOK = "/api/webhooks/configurations"
PREVIEW = "/api/templates/preview"
PREFERENCES = "/api/notifications/preferences?userId=ada"
FOOT = {"channel": "email", "key": "partials/foot", "html": "{{#if}}", "subject": 5}
BROKEN = {"channel": "email", "locale": "?", "subject": "{{#a}}", "text": "{{", "html": "{{/b}}"}
PERSON = {"email": "x", "phone": "1", "locale": "?", "timeZone": "Mars", "attributes": [], "more": 1}
EVENT = {
    "eventType": "a b",
    "recipients": [{"x": 1, "y": 2, "email": "nobody"}, ""],
    "data": {"long": "x" * 300_000},
}
CHOICES = [5, {"category": "No!", "channel": "fax", "enabled": 1}, {"category": "No!", "channel": "sms"}]
RULE = {
    "eventType": "a b",
    "priority": "1",
    "condition": "order.x",
    "category": "No!",
    "actions": [
        5,
        {"channel": "email", "to": "x", "condition": "1 +", "template": "?"},
        {"channel": "fax", "condition": "1 +", "template": "?", "more": 1},
        {"channel": "sms", "to": 5},
    ],
}
PAST = "2001-01-01T00:00:00Z"


def fields_of(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.json
    return sorted(error["field"] for error in answer.json["errors"])


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/api/recipients/tz", PERSON, "attributes email locale more phone timeZone"),
        (
            "/api/events",
            EVENT,
            "data eventType recipients.0.email recipients.0.userId recipients.0.x recipients.0.y recipients.1",
        ),
        ("/api/templates", {"key": "BAD KEY", "channel": "fax"}, "channel key"),
        ("/api/templates", {"key": "a", **BROKEN}, "html locale subject text"),
        ("/api/templates", {"key": "a", "channel": "sms", "html": "x"}, "html text"),
        ("/api/templates", {"key": "a", "channel": "email", "html": 5}, "html subject"),
        ("/api/templates", {"key": "a", "channel": "email", "subject": 1, "html": "{{#a}}"}, "html subject"),
        ("/api/templates", FOOT, "html subject"),
        (PREVIEW, {**BROKEN, "timeZone": "?"}, "html locale subject text timeZone"),
        (
            PREVIEW,
            {"channel": "sms", "text": "{{> a}}{{> b}}{{#x}}", "partials": {"a": 1, "b": "b"}, "data": []},
            "data partials.a.value text",
        ),
        (PREVIEW, {"channel": "sms", "text": "{{> a}}{{> b}}", "partials": {"a": 1, "b": "b"}}, "partials.a.value"),
        (
            PREFERENCES,
            {"items": CHOICES},
            "items.0 items.1.category items.1.channel items.1.enabled items.2.category items.2.enabled",
        ),
        ("/api/preference-defaults", {"items": CHOICES[1:2]}, "items.0.category items.0.channel items.0.enabled"),
        (
            HOOK,
            {"url": "ftp://x", "eventTypes": ["", "a.*.b", "*"], "enabled": 1},
            "enabled eventTypes.0 eventTypes.1 url",
        ),
        (HOOK, {"url": "ftp://x", "eventTypes": ["a.*.b"]}, "eventTypes.0 url"),
        (
            "/api/rules",
            RULE,
            "actions.0 actions.1.condition actions.1.template actions.1.to actions.2.channel actions.2.condition"
            " actions.2.more actions.2.template actions.3.template actions.3.to category condition eventType priority",
        ),
        ("/api/api-keys", {"scopes": ["all", "*"], "expiresAt": PAST}, "expiresAt name scopes.0"),
        ("/api/signing-keys", {"algorithm": "EdDSA", "publicKey": "x"}, "name publicKey"),
        ("/api/send/email", {"to": "x", "subject": "a"}, "text to"),
        ("/api/send/email", {"to": "x", "subject": "a", "html": 5}, "html to"),
    ],
)
def test_all_that_is_wrong_is_told_at_once(
    client: Any, auth: dict[str, str], path: str, body: Any, fields: str
) -> None:
    method = "PUT" if path.startswith(("/api/recipients", PREFERENCES, "/api/preference")) else "POST"

    answer = client.open(path, method=method, json=body, headers=auth)

    assert fields_of(answer) == fields.split(" ")


@pytest.mark.parametrize("path", ["/api/rules", "/api/templates", PREVIEW, HOOK, "/api/api-keys", "/api/send/email"])
@pytest.mark.parametrize("body", [[], "subject", 5, True, [{"subject": 1}]])
def test_what_is_no_object_is_said_so(client: Any, auth: dict[str, str], path: str, body: Any) -> None:
    assert fields_of(client.post(path, json=body, headers=auth)) == [""]
