"""Who posts: a steady stream of events and direct sends, each of which must happen once.

Every post has an Idempotency-Key and is repeated until it gets its 2xx, whatever answers meanwhile.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.receiver_http import DEDUPE_PATH
from bench.chaos.world import KEY, World

PEOPLE = 60
NO_EMAIL = "user-0"  # has said no to email
_TIMEOUT_SECONDS = 10.0
_TEMPLATES: dict[str, dict[str, str]] = {
    "email": {"subject": "No. {{data.n}}", "text": "Hello {{recipient.name}}, this is {{data.n}}."},
    "sms": {"text": "This is {{data.n}}."},
    "in_app": {"title": "No. {{data.n}}", "text": "This is {{data.n}}."},
}
Wanted = tuple[str, str]  # (channel, whose: a user id, or the id of a webhook configuration)


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


class Api:
    """One kept connection, made anew whenever it breaks."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)

    def call(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """(status, JSON of the answer); 0 when there was none."""
        sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **(headers or {})}
        try:
            self._connection.request(method, path, json.dumps(body).encode(), sent)
            answer = self._connection.getresponse()
            said = answer.read()
            return answer.status, json.loads(said) if said else None
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return 0, None

    def need(self, method: str, path: str, body: Any) -> Any:
        """The JSON of an answer that has to be a success."""
        status, said = self.call(method, path, body)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {said}")
        return said


def prepare(world: World) -> dict[str, list[str]]:
    """People, rules, templates and subscribers. Answers {event type: configurations that hear of it}."""
    api = Api(world.port)
    people = [
        {"userId": f"user-{n}", "name": f"Person {n}", "email": f"person-{n}@example.com", "phone": f"+1500555{n:04}"}
        for n in range(PEOPLE)
    ]
    api.need("POST", "/api/events", {"eventType": "chaos.nobody", "recipients": people})
    for channel, parts in _TEMPLATES.items():
        api.need("POST", "/api/templates", {"key": "chaos", "channel": channel, **parts})
    for event_type, channels in (("chaos.one", ("email", "sms", "in_app")), ("chaos.many", ("email", "in_app"))):
        actions = [{"channel": channel, "template": "chaos"} for channel in channels]
        rule = {"eventType": event_type, "name": event_type, "category": "chaos", "actions": actions}
        api.need("POST", "/api/rules", rule)
    large = {"eventType": "chaos.one", "name": "large", "category": "chaos", "condition": "data.n % 3 == 0"}
    api.need("POST", "/api/rules", large | {"actions": [{"channel": "sms", "template": "chaos"}]})
    refusal = {"items": [{"category": "chaos", "channel": "email", "enabled": False}]}
    api.need("PUT", f"/api/notifications/preferences?userId={NO_EMAIL}", refusal)
    hears: dict[str, list[str]] = {"chaos.one": [], "chaos.hook": [], "chaos.many": []}
    for path, types in (("/plain", ["chaos.one", "chaos.hook"]), (DEDUPE_PATH, ["chaos.hook", "chaos.one"])):
        url = f"http://127.0.0.1:{world.receiver_ports['http']}{path}"
        made = api.need("POST", "/api/webhooks/configurations", {"url": url, "eventTypes": types})
        for event_type in types:
            hears[event_type].append(made["id"])
    return hears


class Posts:
    """What is posted in a run: the same seed posts the same, in the same order."""

    def __init__(self, seed: int, hears: Mapping[str, Sequence[str]]) -> None:
        self._chance = random.Random(seed)
        self._hears = hears
        self._lock = threading.Lock()
        self._numbers = 0
        self.made: list[Post] = []

    def next(self) -> Post:
        """The next request of the stream."""
        with self._lock:
            make = self._chance.choices([self._one, self._many, self._batch, self._direct], [5, 1, 1, 2])[0]
            return self._keep(make())

    def poisoned(self, address: str) -> Post:
        """A request that puts a message to this address among those of some people."""
        with self._lock:
            n = self._number()
            users = [f"user-{user}" for user in range(1, 9)]
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
        return {"eventType": event_type, "recipients": list(recipients), "data": {"n": n}}

    def _wanted(self, event_type: str, n: int, users: Sequence[str]) -> list[Wanted]:
        channels = {"chaos.one": ["email", "sms", "in_app"], "chaos.many": ["email", "in_app"]}.get(event_type, [])
        if event_type == "chaos.one" and n % 3 == 0:
            channels = [*channels, "sms"]
        of_people = [(channel, user) for user in users for channel in channels]
        return of_people + [("webhook", configuration) for configuration in self._hears[event_type]]

    def _one(self) -> Post:
        n, user = self._number(), f"user-{self._chance.randrange(PEOPLE)}"
        wanted = {n: self._wanted("chaos.one", n, [user])}
        return Post(n, "/api/events", self._event("chaos.one", n, [user]), wanted)

    def _many(self) -> Post:
        n = self._number()
        users = [f"user-{user}" for user in self._chance.sample(range(PEOPLE), self._chance.randint(5, 40))]
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
        channel = self._chance.choice(["email", "sms", "in_app"])
        text = f"This is {n}."
        if channel == "email":
            to = [f"direct-{n}-{copy}@example.com" for copy in range(self._chance.randint(1, 3))]
            return Post(
                n, "/api/send/email", {"to": to, "subject": text, "text": text}, addresses=dict.fromkeys(to, channel)
            )
        if channel == "sms":
            to = [f"+1{2_010_000_000 + n}"]
            return Post(n, "/api/send/sms", {"to": to, "message": text}, addresses={to[0]: channel})
        user = f"direct-{n}"
        body = {"userId": user, "title": text, "message": text}
        return Post(n, "/api/send/in-app", body, addresses={user: channel})


class Clients:
    """So many threads that post `rate` requests a second between them until `stop`, then finish what they began."""

    def __init__(self, port: int, posts: Posts, rate: float, count: int = 24) -> None:
        self._port = port
        self._posts = posts
        self._gap = 1 / rate
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._next_at = time.monotonic()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, name=f"client-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        """Begin to post."""
        for thread in self._threads:
            thread.start()

    def stop(self, patience_s: float) -> None:
        """Begin nothing new; wait until everything has got its 2xx, but not for ever."""
        self._stopping.set()
        end = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._given_up.set()

    def post_aside(self, post: Post) -> None:
        """Post this besides the stream."""
        thread = threading.Thread(target=lambda: self._post(Api(self._port), post), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        api = Api(self._port)
        while not self._stopping.is_set():
            with self._lock:
                self._next_at = max(self._next_at + self._gap, time.monotonic() - 1)
                wait = self._next_at - time.monotonic()
            if wait > 0 and self._stopping.wait(wait):
                return
            self._post(api, self._posts.next())

    def _post(self, api: Api, post: Post) -> None:
        post.began_at = time.time()
        headers = {"Idempotency-Key": f"chaos-{post.number}"}
        while not self._given_up.is_set():
            post.tries += 1
            status, said = api.call("POST", post.path, post.body, headers)
            if 200 <= status < 300:
                post.acked_at, post.answer = time.time(), said
                return
            if 400 <= status < 500 and status not in (409, 429):
                post.answer = (status, said)
                return
            time.sleep(0.25)
