"""How to call every route under /api, and a tenant that has one of everything.

A new route gets a line in `CALLS`: what it is called with when it is called well. If its path has a hole, `build`
says which of the tenant's things goes there, by the path up to the hole. All that the tenant has says `MARK`, and so
no answer to anybody else may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MARK = "Zebra"
PERSON = "ada"


@dataclass(frozen=True)
class Call:
    """What a route is called with. `$hook` in a value is the receiver's URL, `$item` an in-app notification's id."""

    body: Mapping[str, Any] | None = None
    query: str = ""
    personal: bool = False  # it belongs to the person named by ?userId=


_EVENT = {"eventType": "order.created", "data": {"n": 1}, "recipients": [PERSON]}
_RULE = {"eventType": "a.b", "category": "c", "actions": [{"channel": "sms", "template": "order.created"}]}
_TEMPLATE = {"key": "hello", "channel": "sms", "text": "Hello"}
_CHOICES = {"items": [{"category": "orders", "channel": "sms", "enabled": False}]}
_KEY = {"name": "another", "scopes": ["events:read"]}
_HOOK = {"url": "$hook/other"}
_PEOPLE = {"userIds": ["bob"]}
_ITEMS = {"ids": ["$item"]}
_ONE = "/<key_id>"

CALLS: dict[str, Call] = {
    "GET /api/api-keys": Call(),
    "POST /api/api-keys": Call(_KEY),
    f"GET /api/api-keys{_ONE}": Call(),
    f"PUT /api/api-keys{_ONE}": Call(_KEY),
    f"DELETE /api/api-keys{_ONE}": Call(),
    "GET /api/signing-keys": Call(),
    "POST /api/signing-keys": Call({"name": "another", "algorithm": "HS256"}),
    f"GET /api/signing-keys{_ONE}": Call(),
    f"PUT /api/signing-keys{_ONE}": Call({"name": "renamed"}),
    f"DELETE /api/signing-keys{_ONE}": Call(),
    "GET /api/events": Call(),
    "POST /api/events": Call(_EVENT),
    "POST /api/events/batch": Call({"events": [_EVENT]}),
    "GET /api/events/<event_id>": Call(),
    "GET /api/deliveries": Call(),
    "GET /api/deliveries/<delivery_id>": Call(),
    "POST /api/deliveries/<delivery_id>/cancel": Call(),
    "POST /api/deliveries/<delivery_id>/retry": Call(),
    "POST /api/send/email": Call({"to": "x@example.com", "subject": "s", "text": "t"}),
    "POST /api/send/sms": Call({"to": "+15005550006", "message": "m"}),
    "POST /api/send/in-app": Call({"userId": PERSON, "title": "t", "message": "m"}),
    "POST /api/send/webhook": Call({"url": "$hook/direct", "payload": {}}),
    "GET /api/notifications": Call(personal=True),
    "GET /api/notifications/unread-count": Call(personal=True),
    "POST /api/notifications/mark-as-read": Call(_ITEMS, personal=True),
    "POST /api/notifications/mark-all-as-read": Call(personal=True),
    "POST /api/notifications/delete": Call(_ITEMS, personal=True),
    "POST /api/notifications/test": Call({"channels": ["in_app"]}, personal=True),
    "GET /api/notifications/preferences": Call(personal=True),
    "PUT /api/notifications/preferences": Call(_CHOICES, personal=True),
    "GET /api/preference-defaults": Call(),
    "PUT /api/preference-defaults": Call(_CHOICES),
    "GET /api/recipients": Call(),
    "GET /api/recipients/<user_id:user_id>": Call(),
    "PUT /api/recipients/<user_id:user_id>": Call({"email": "new@example.com"}),
    "DELETE /api/recipients/<user_id:user_id>": Call(),
    "GET /api/recipients/<user_id:user_id>/export": Call(),
    "GET /api/erasures": Call(),
    "GET /api/erasures/<erasure_id>": Call(),
    "GET /api/topics": Call(),
    "GET /api/topics/<name>": Call(),
    "PUT /api/topics/<name>": Call({"description": "another"}),
    "GET /api/topics/<name>/recipients": Call(),
    "PUT /api/topics/<name>/recipients": Call(_PEOPLE),
    "DELETE /api/topics/<name>/recipients": Call(_PEOPLE),
    "DELETE /api/topics/<name>": Call(),
    "GET /api/rules": Call(),
    "POST /api/rules": Call(_RULE),
    "GET /api/rules/<rule_id>": Call(),
    "PUT /api/rules/<rule_id>": Call(_RULE),
    "DELETE /api/rules/<rule_id>": Call(),
    "GET /api/templates": Call(),
    "POST /api/templates": Call(_TEMPLATE),
    "GET /api/templates/<template_id>": Call(),
    "PUT /api/templates/<template_id>": Call(_TEMPLATE | {"key": "zebra"}),
    "DELETE /api/templates/<template_id>": Call(),
    "POST /api/templates/<template_id>/preview": Call({"data": {}}),
    "POST /api/templates/preview": Call({"channel": "sms", "text": "{{> greeting}}", "partials": {"greeting": "x"}}),
    "GET /api/webhooks/configurations": Call(),
    "POST /api/webhooks/configurations": Call(_HOOK),
    "GET /api/webhooks/configurations/<configuration_id>": Call(),
    "PUT /api/webhooks/configurations/<configuration_id>": Call(_HOOK),
    "DELETE /api/webhooks/configurations/<configuration_id>": Call(),
    "POST /api/webhooks/configurations/<configuration_id>/regenerate-secret": Call(),
    "POST /api/webhooks/configurations/<configuration_id>/test": Call(),
    "GET /api/webhooks/configurations/<configuration_id>/logs": Call(),
    "POST /api/webhooks/regenerate-secret": Call(),
}

CREATES_FOR_ANYBODY = (
    "PUT /api/recipients/<user_id:user_id>",
    "PUT /api/topics/<name>",
    "PUT /api/topics/<name>/recipients",
    "GET /api/recipients/<user_id:user_id>/export",
)
"""Routes with a hole that make what is not there: for another tenant they do so in its own house.

An export also finds what the walk itself sent to a person of this name there.
"""


@dataclass
class House:
    """The tenant's things: {path up to the hole: what goes there}, an in-app notification, the receiver's URL."""

    things: dict[str, str] = field(default_factory=dict)
    item: str = ""
    hook: str = ""

    def path(self, rule: str) -> str:
        """The path of a route with one of the tenant's own things in its hole."""
        before, hole, after = rule.partition("/<")
        if not hole:
            return rule
        return f"{before}/{self.things[before]}{after.partition('>')[2]}"

    def body(self, call: Call) -> Any:
        """The body of a call."""
        return _filled(call.body, {"$hook": self.hook, "$item": self.item})


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(word, meaning)
        return value
    if isinstance(value, Mapping):
        return {name: _filled(found, words) for name, found in value.items()}
    return [_filled(found, words) for found in value] if isinstance(value, list) else value


def routes(app: Any) -> Iterator[str]:
    """Every route under /api as `METHOD rule`."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api"):
            yield from (f"{method} {rule.rule}" for method in sorted(rule.methods - {"HEAD", "OPTIONS"}))


def build(client: Any, auth: dict[str, str], hook: str) -> House:
    """Give the tenant one of everything, each with the mark in it. `hook` is a receiver's URL."""
    house = House(hook=hook)

    def make(method: str, path: str, body: Any) -> Any:
        answer = client.open(path, method=method, json=body, headers=auth | {"Idempotency-Key": MARK})
        assert answer.status_code < 300, answer.get_data(as_text=True)
        return answer.json

    person = {"name": MARK, "email": "zebra@example.com", "phone": "+15005550006", "attributes": {"kind": MARK}}
    make("PUT", f"/api/recipients/{PERSON}", person)
    text = {"key": "zebra", "channel": "sms", "text": f"{MARK} {{{{data.n}}}}"}
    rule = {**_RULE, "name": MARK, "eventType": "zebra.seen"}
    direct = make("POST", "/api/send/in-app", {"userId": PERSON, "title": MARK, "message": MARK})["deliveries"][0]
    choice = {"category": MARK.lower(), "channel": "email", "enabled": False}
    make("PUT", f"/api/notifications/preferences?userId={PERSON}", {"items": [choice]})
    make("PUT", "/api/preference-defaults", {"items": [choice | {"category": "c"}]})  # all its people see these
    greeting = make("POST", f"/api/notifications/test?userId={PERSON}", {"channels": ["in_app"]})["deliveries"][0]
    subscriber = {"url": f"{hook}/{MARK}", "description": MARK, "eventTypes": ["zebra.seen"]}
    configuration = make("POST", "/api/webhooks/configurations", subscriber)["id"]
    make("POST", f"/api/webhooks/configurations/{configuration}/test", None)
    event = {"eventType": "zebra.seen", "data": {"kind": MARK}, "recipients": [PERSON]}
    make("PUT", "/api/topics/insiders", {"description": MARK})
    make("PUT", "/api/topics/insiders/recipients", {"userIds": [PERSON, MARK]})
    house.item = greeting["id"]
    house.things = {
        "/api/recipients": PERSON,
        "/api/erasures": make("DELETE", f"/api/recipients/{MARK}?erase=true", None)["id"],
        "/api/topics": "insiders",
        "/api/events": make("POST", "/api/events", event)["id"],
        "/api/deliveries": direct["id"],
        "/api/templates": make("POST", "/api/templates", text)["id"],
        "/api/rules": make("POST", "/api/rules", rule)["id"],
        "/api/webhooks/configurations": configuration,
        "/api/api-keys": make("POST", "/api/api-keys", {"name": MARK})["id"],
        "/api/signing-keys": make("POST", "/api/signing-keys", {"name": MARK, "algorithm": "HS256"})["id"],
    }
    return house
