"""The HTTP side of Twilio's library: a kept session for each thread, one TLS context, headers not lost."""

from __future__ import annotations

import ssl
import threading
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import certifi
import requests
from requests.adapters import HTTPAdapter
from twilio.http import HttpClient
from twilio.http.response import Response

_CONTEXT_LOCK = threading.Lock()
_CONTEXT: list[ssl.SSLContext] = []


class SessionClient(HttpClient):  # type: ignore[misc]  # Twilio's library has no types
    """Sends what the library made to `base_url`, whatever host the library had in mind.

    One client may serve many threads; `last_retry_after` speaks of the calling thread's last answer.
    """

    def __init__(self, base_url: str, timeout_s: float) -> None:
        super().__init__(None, False, timeout_s)
        base = urlsplit(base_url)
        self._scheme, self._netloc = base.scheme, base.netloc
        self._prefix = base.path.rstrip("/")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[requests.Session] = []

    def request(
        self,
        method: str,
        url: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """One request, by the library's rules. Raises requests' exceptions."""
        answer = self._session().request(
            method,
            self._moved(url),
            params=params,  # type: ignore[arg-type]  # the library gives what requests takes
            data=data,
            headers=headers,
            auth=auth,
            timeout=timeout or self.timeout,
            allow_redirects=allow_redirects,
        )
        self._local.retry_after = answer.headers.get("retry-after")
        return Response(answer.status_code, answer.text, answer.headers)

    def last_retry_after(self) -> str | None:
        """The Retry-After of this thread's last answer: the library's exceptions do not carry it."""
        found: str | None = getattr(self._local, "retry_after", None)
        return found

    def close(self) -> None:
        """Close every thread's session."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _moved(self, url: str) -> str:
        parts = urlsplit(url)
        return urlunsplit((self._scheme, self._netloc, self._prefix + parts.path, parts.query, ""))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.mount("https://", _SharedContext())
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session


class _SharedContext(HTTPAdapter):
    """Verifies with one context: requests would read the whole CA bundle again for every new connection (14 ms)."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=_context())

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002 - requests names them
        """Nothing to add: the context verifies, and requests would name a bundle to load."""
        conn.cert_reqs = "CERT_REQUIRED"


def _context() -> ssl.SSLContext:
    with _CONTEXT_LOCK:
        if not _CONTEXT:
            _CONTEXT.append(ssl.create_default_context(cafile=certifi.where()))
        return _CONTEXT[0]
