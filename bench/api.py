"""What a benchmark says to the service: single requests on a kept connection, and what is set up before measuring."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Sequence
from typing import Any

TEXT = (
    "Hello {{recipient.name}},\n\nyour order {{data.orderId}} of {{data.total}} {{data.currency}} is on its way.\n"
    "{{#each data.items}}- {{quantity}} x {{name}}\n{{/each}}\nThank you!\n"
)
HTML = (
    '<html><body style="font-family: sans-serif"><h1>Hello {{recipient.name}}</h1>'
    "<p>Your order <b>{{data.orderId}}</b> of {{data.total}} {{data.currency}} is on its way.</p>\n"
    "<ul>{{#each data.items}}<li>{{quantity}} &times; {{name}}</li>\n{{/each}}</ul>\n"
    '<p><a href="https://shop.example.com/orders/{{data.orderId}}">See your order</a></p></body></html>\n'
)
DATA: dict[str, Any] = {
    "orderId": "A-1001",
    "total": 49.9,
    "currency": "EUR",
    "items": [{"name": "Tea, green", "quantity": 2}, {"name": "Cup", "quantity": 1}],
}
TEMPLATES: dict[str, dict[str, str]] = {
    "email": {"subject": "Order {{data.orderId}} for {{recipient.name}}", "text": TEXT, "html": HTML},
    "in_app": {"title": "Order {{data.orderId}}", "text": "{{recipient.name}}, your order is on its way."},
}


class Api:
    """JSON over one kept connection."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def post(self, path: str, body: Any) -> Any:
        """The answer's JSON. Raises RuntimeError when it is no success."""
        return self._call("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """As `post`."""
        return self._call("PUT", path, body)

    def get(self, path: str) -> Any:
        """As `post`, without a body."""
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, data, self._headers)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()  # kept too long: the server hangs up after five idle seconds
            self._connection.request(method, path, data, self._headers)
            answer = self._connection.getresponse()
        said = answer.read()
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {said[:500]!r}")
        return json.loads(said)


def make_people(api: Api, count: int) -> list[str]:
    """Save so many people with names and addresses; answers their user ids."""
    people = [
        {"userId": f"user-{n}", "name": f"Person {n}", "email": f"person-{n}@example.com", "locale": "en"}
        for n in range(count)
    ]
    for start in range(0, count, 1000):
        api.post("/api/events", {"eventType": "bench.nobody", "recipients": people[start : start + 1000]})
    return [str(person["userId"]) for person in people]


def make_rule(api: Api, channel: str) -> str:
    """A rule with one action on this channel, and its template. Answers the event type."""
    event_type = f"bench.{channel}"
    api.post("/api/templates", {"key": event_type, "channel": channel, **TEMPLATES[channel]})
    actions = [{"channel": channel, "template": event_type}]
    api.post("/api/rules", {"eventType": event_type, "name": event_type, "category": "bench", "actions": actions})
    return event_type


def make_subscribers(api: Api, port: int, event_types: Sequence[str], count: int) -> None:
    """So many webhook configurations for these event types, at one receiver."""
    for n in range(count):
        body = {"url": f"http://127.0.0.1:{port}/hook/{n}", "eventTypes": list(event_types)}
        api.post("/api/webhooks/configurations", body)


def event(event_type: str, user_ids: Iterable[str] = ()) -> dict[str, Any]:
    """An event to post."""
    return {"eventType": event_type, "recipients": list(user_ids), "data": DATA}
