"""Who posts: a steady stream of requests, each of which must happen once.

Every post has an Idempotency-Key and is repeated until it gets its 2xx, whatever answers meanwhile.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from bench.chaos.posts import Post, Posts
from bench.chaos.world import KEY

_TIMEOUT_SECONDS = 10.0


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
