"""What is posted, and what must come of it: events of all kinds, and direct sends."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.receiver_http import DEDUPE_PATH

NO_EMAIL = "user-0"  # has said no to email
EVERYONE = "everyone"
_PEOPLE = [f"user-{n}" for n in range(60)]
_PRIORITIES = ("transactional", "normal", "bulk")
_TEMPLATES: dict[str, dict[str, str]] = {
    "email": {"subject": "No. {{data.n}}", "text": "Hello {{recipient.name}}, this is {{data.n}}."},
    "sms": {"text": "This is {{data.n}}."},
    "in_app": {"title": "No. {{data.n}}", "text": "This is {{data.n}}."},
}
Wanted = tuple[str, str]  # (channel, whose: a user id, or the id of a webhook configuration)
Need = Callable[[str, str, Any], Any]  # method, path, body -> the JSON of an answer that has to be a success


@dataclass
class Post:
    """One request: what is posted, and the deliveries that must come of each of its events, or of itself."""

    number: int
    path: str
    body: dict[str, Any]
    events: dict[int, list[Wanted]] = field(default_factory=dict)  # {the n in the event's data: its deliveries}
    addresses: dict[str, str] = field(default_factory=dict)  # of direct sends: {address: channel}
    began_at: float = 0.0
    acked_at: float = 0.0  # 0: it never got its 2xx
    answer: Any = None
    tries: int = 0


def prepare(need: Need, webhooks: str) -> dict[str, list[str]]:
    """People, rules, templates, a topic and subscribers at `webhooks`.

    Answers {event type: the configurations that hear of it}.
    """
    people = [
        {"userId": user, "name": user, "email": f"{user}@example.com", "phone": f"+1500555{n:04}"}
        for n, user in enumerate(_PEOPLE)
    ]
    need("POST", "/api/events", {"eventType": "chaos.nobody", "recipients": people})
    need("PUT", f"/api/topics/{EVERYONE}/recipients", {"userIds": [person["userId"] for person in people]})
    for channel, parts in _TEMPLATES.items():
        need("POST", "/api/templates", {"key": "chaos", "channel": channel, **parts})
    for event_type, channels in (("chaos.one", ("email", "sms", "in_app")), ("chaos.many", ("email", "in_app"))):
        actions = [{"channel": channel, "template": "chaos"} for channel in channels]
        rule = {"eventType": event_type, "name": event_type, "category": "chaos", "actions": actions}
        need("POST", "/api/rules", rule)
    large = {"eventType": "chaos.one", "name": "large", "category": "chaos", "condition": "data.n % 3 == 0"}
    need("POST", "/api/rules", large | {"actions": [{"channel": "sms", "template": "chaos"}]})
    refusal = {"items": [{"category": "chaos", "channel": "email", "enabled": False}]}
    need("PUT", f"/api/notifications/preferences?userId={NO_EMAIL}", refusal)
    hears: dict[str, list[str]] = {"chaos.one": [], "chaos.hook": [], "chaos.many": []}
    for path, types in (("/plain", ["chaos.one", "chaos.hook"]), (DEDUPE_PATH, ["chaos.hook", "chaos.one"])):
        wanted = {"url": f"{webhooks}{path}", "eventTypes": types}
        made = need("POST", "/api/webhooks/configurations", wanted)
        for event_type in types:
            hears[event_type].append(made["id"])
    return hears


class Posts:
    """What is posted in a run: the same seed posts the same, in the same order.

    `hears`: what `prepare` answered. `webhooks`: the receiver of webhooks that are sent directly.
    """

    def __init__(self, seed: int, hears: Mapping[str, Sequence[str]], webhooks: str) -> None:
        self._chance = random.Random(seed)
        self._hears = hears
        self._webhooks = webhooks
        self._lock = threading.Lock()
        self._numbers = 0
        self._kinds = {self._one: 10, self._twice: 2, self._many: 2, self._topic: 1, self._batch: 2, self._direct: 4}
        self._twins: list[Post] = []
        self.made: list[Post] = []

    def next(self) -> Post:
        """The next request of the stream."""
        with self._lock:
            if self._twins:
                return self._keep(self._twins.pop())
            make = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
            return self._keep(make())

    def poisoned(self, address: str) -> Post:
        """A request that puts a message to this address among those of some people."""
        with self._lock:
            n = self._number()
            users = _PEOPLE[1:9]
            person = {"userId": f"of-{address}", "name": "Poison", "email": f"{address}@example.com"}
            event = self._event("chaos.many", n, [*users[:4], person, *users[4:]])
            wanted = {n: self._wanted("chaos.many", n, [*users, person["userId"]])}
            return self._keep(Post(n, "/api/events", event, wanted))

    def _keep(self, post: Post) -> Post:
        self.made.append(post)
        return post

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _event(self, event_type: str, n: int, recipients: Sequence[Any]) -> dict[str, Any]:
        priority = self._chance.choice(_PRIORITIES)
        return {"eventType": event_type, "recipients": list(recipients), "data": {"n": n}, "priority": priority}

    def _wanted(self, event_type: str, n: int, users: Sequence[str]) -> list[Wanted]:
        channels = {"chaos.one": ["email", "sms", "in_app"], "chaos.many": ["email", "in_app"]}.get(event_type, [])
        if event_type == "chaos.one" and n % 3 == 0:
            channels = [*channels, "sms"]
        of_people = [(channel, user) for user in users for channel in channels]
        return of_people + [("webhook", configuration) for configuration in self._hears[event_type]]

    def _one(self) -> Post:
        n, user = self._number(), self._chance.choice(_PEOPLE)
        wanted = {n: self._wanted("chaos.one", n, [user])}
        return Post(n, "/api/events", self._event("chaos.one", n, [user]), wanted)

    def _twice(self) -> Post:
        """An event that two callers tell of at about the same time: with one dedupe key it is one."""
        first = self._one()
        first.body["dedupe"] = {"key": f"order-{first.number}", "window": 3600}
        self._twins.append(Post(self._number(), first.path, first.body, first.events))
        return first

    def _topic(self) -> Post:
        n = self._number()
        event = self._event("chaos.many", n, []) | {"topics": [EVERYONE]}
        return Post(n, "/api/events", event, {n: self._wanted("chaos.many", n, _PEOPLE)})

    def _many(self) -> Post:
        n = self._number()
        users = self._chance.sample(_PEOPLE, self._chance.randint(5, 40))
        wanted = {n: self._wanted("chaos.many", n, users)}
        return Post(n, "/api/events", self._event("chaos.many", n, users), wanted)

    def _batch(self) -> Post:
        numbers = [self._number() for _ in range(8)]
        events = [self._event("chaos.hook", n, []) for n in numbers]
        return Post(
            numbers[0], "/api/events/batch", {"events": events}, {n: self._wanted("chaos.hook", n, []) for n in numbers}
        )

    def _direct(self) -> Post:
        n = self._number()
        channel = self._chance.choice(["email", "sms", "in_app", "webhook"])
        text = f"This is {n}."
        if channel == "email":
            to = [f"direct-{n}-{copy}@example.com" for copy in range(self._chance.randint(1, 3))]
            words = {"to": to, "subject": text, "text": text, "priority": self._chance.choice(_PRIORITIES)}
            return Post(n, "/api/send/email", words, addresses=dict.fromkeys(to, channel))
        if channel == "sms":
            to = [f"+1{2_010_000_000 + n}"]
            return Post(n, "/api/send/sms", {"to": to, "message": text}, addresses={to[0]: channel})
        if channel == "webhook":
            url = f"{self._webhooks}/direct/{n}"
            return Post(n, "/api/send/webhook", {"url": url, "payload": {"n": n}}, addresses={url: channel})
        user = f"direct-{n}"
        body = {"userId": user, "title": text, "message": text}
        return Post(n, "/api/send/in-app", body, addresses={user: channel})
