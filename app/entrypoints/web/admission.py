"""Who may look at caught messages: a browser on this machine that asked for this machine. To all others: 404."""

from __future__ import annotations

import re

from flask import Flask, abort, request

PREFIX = "/dev/"

# A page elsewhere can point a name of its own at 127.0.0.1 (DNS rebinding): then the Host is that name.
_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
_FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "x-original-host"})


def install(app: Flask) -> None:
    """Guard every path under PREFIX, also for methods and paths that no route takes."""
    app.before_request(_guard)


def admitted() -> bool:
    """Whether the request comes from this machine, by no proxy's hand, and names this machine."""
    names = {name.lower() for name, _ in request.headers}
    if names & _FORWARDING or any(name.startswith("x-forwarded-") for name in names):
        return False
    # nginx as it comes forwards without a trace but this, and makes the Host 127.0.0.1.
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return False
    return bool(_HOST.fullmatch(request.environ.get("HTTP_HOST", "")))


def _guard() -> None:
    if request.path.startswith(PREFIX) and not admitted():
        abort(404)
