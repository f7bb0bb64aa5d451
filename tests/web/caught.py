"""Caught messages made for a test, and the page that nobody may tell from an unknown one."""

from __future__ import annotations

from typing import Any

from providers.catcher import CaughtMessage

UNKNOWN = "00000000000000000001-00000000"


def kept(number: int = 0, **fields: Any) -> CaughtMessage:
    """A message with the id of this nanosecond."""
    caught_id = f"{10**18 + number:020d}-0000abcd"
    given = {"id": caught_id, "channel": "email", "time": "2026-11-20T07:08:09+00:00", "delivery_id": "d"}
    return CaughtMessage(**{**given, "sender": "s@example.com", "to": "t@example.com", "text": "x", **fields})


def assert_unknown_page(client: Any, answer: Any) -> None:
    """Not to be told apart from a page that never was."""
    unknown = client.get("/no/such/page")
    assert answer.status_code == unknown.status_code == 404
    assert answer.data == unknown.data
    varying = {"X-Request-Id", "RateLimit-Remaining", "RateLimit-Reset"}
    assert {k: v for k, v in answer.headers if k not in varying} == {
        k: v for k, v in unknown.headers if k not in varying
    }
