"""What the log says of requests, and what it never says."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app.config import Settings
from app.logs import configure_logs


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """All that is logged, as JSON; afterwards it goes where it went before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(Settings(log_level="debug", log_format="json"), stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_request_and_none_of_its_secrets(
    client: Any, auth: dict[str, str], written: io.StringIO
) -> None:
    made = client.post("/api/api-keys", json={"name": "words-of-the-body"}, headers=auth)
    client.get("/api/events?eventType=private.query", headers={"Authorization": "Bearer tdg_live_" + "w" * 40})

    mine = [line for line in lines(written) if line.get("request_id") == made.headers["X-Request-Id"]]
    assert (mine[-1]["event"], mine[-1]["status"]) == ("request", 201)
    for secret in (auth["Authorization"][7:], made.json["key"], "words-of-the-body", "w" * 40, "private.query"):
        assert secret not in written.getvalue()


def test_a_fault_of_ours_is_logged_with_its_trace(app: Any, auth: dict[str, str], written: io.StringIO) -> None:
    def broken() -> None:
        raise RuntimeError("what went wrong")

    app.view_functions["events.list_events"] = broken

    answer = app.test_client().get("/api/events", headers=auth)

    (line,) = [line for line in lines(written) if line["event"] == "unhandled_exception"]
    assert line["request_id"] == answer.json["requestId"]
    assert "what went wrong" in line["exception"]
    assert (line["level"], line["error"]) == ("error", "RuntimeError")


def test_what_libraries_log_comes_out_the_same_way(written: io.StringIO) -> None:
    logging.getLogger("a.library").warning("careful: %s", "hot")

    # threads that earlier tests have left may say something too
    (line,) = [line for line in lines(written) if "careful" in line["event"]]
    assert (line["event"], line["level"]) == ("careful: hot", "warning")
