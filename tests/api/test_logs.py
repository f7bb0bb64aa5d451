"""What the log says of requests, and what it never says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog

from app.config import Settings
from app.logs import configure_logs


@pytest.fixture
def loud(capfd: pytest.CaptureFixture[str]) -> Any:
    """Everything is logged, as JSON; afterwards as before."""
    configure_logs(Settings(log_level="debug", log_format="json"))
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("loud")
def test_a_line_has_the_request_and_none_of_its_secrets(
    client: Any, auth: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    made = client.post("/api/api-keys", json={"name": "words-of-the-body"}, headers=auth)
    client.get("/api/events?eventType=private.query", headers={"Authorization": "Bearer tdg_live_" + "w" * 40})

    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    mine = [line for line in lines if line["request_id"] == made.headers["X-Request-Id"]]
    assert mine[-1]["event"] == "request"
    assert mine[-1]["status"] == 201
    for secret in (auth["Authorization"][7:], made.json["key"], "words-of-the-body", "w" * 40, "private.query"):
        assert secret not in written


@pytest.mark.usefixtures("loud")
def test_a_fault_of_ours_is_logged_with_its_trace(
    app: Any, auth: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_query: Any) -> None:
        raise RuntimeError("what went wrong")

    app.view_functions["events.list_events"] = lambda: broken(None)

    answer = app.test_client().get("/api/events", headers=auth)

    (line,) = [json.loads(found) for found in capfd.readouterr().err.splitlines() if "unhandled" in found]
    assert line["request_id"] == answer.json["requestId"]
    assert "what went wrong" in line["exception"]
    assert line["level"] == "error"
