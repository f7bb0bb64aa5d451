"""The caller's trace: through web, queue and worker to the receiver, with spans where they are wanted and without."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from app import tracing
from app.config import Settings
from app.core.runtime import Runtime
from app.ids import new_id
from tests.conftest import wait_until
from tests.core.helpers import add_endpoint
from tests.docs.service import Service
from tests.seeing.otlp import OtlpReceiver, Seen
from tests.servers.http import Answer, HttpReceiver

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (CALLER, CALLER),
        (f" {CALLER} ", CALLER),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", CALLER),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", CALLER),
        (f"cc-{TRACE}-{SPAN}-01", CALLER),
        (f"cc-{TRACE}-{SPAN}-01.what", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"{CALLER},{CALLER}", None),
        (f"{CALLER}\n", CALLER),
        (CALLER.replace("0a", "٠a"), None),
        ("cc" + CALLER[2:] + "-" + "x" * 300, None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_kept_by_the_rules_or_not_at_all(header: str | None, kept: str | None) -> None:
    assert tracing.parsed(header) == kept


def test_each_try_has_a_span_of_its_own_in_the_same_trace() -> None:
    first, second = new_id(), new_id()

    sent = tracing.of_attempt(CALLER, first)

    assert sent is not None
    assert tracing.parsed(sent) == sent
    assert (sent[:36], sent[52:]) == (CALLER[:36], "-01")
    assert len({sent, tracing.of_attempt(CALLER, second), CALLER}) == 3
    assert tracing.of_attempt(None, first) is None


def traceparents(receiver: HttpReceiver, count: int) -> list[str]:
    return [one.headers.get("traceparent", "") for one in receiver.wait_for(count)]


def post(client: Any, path: str, auth: dict[str, str], body: Any, traceparent: str | None = CALLER) -> Any:
    headers = auth | ({"traceparent": traceparent} if traceparent else {})
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json


def test_the_trace_leaves_with_every_try_of_a_webhook(
    client: Any, runtime: Runtime, tenant_id: str, auth: dict[str, str], worker: Any
) -> None:
    with HttpReceiver() as receiver:
        receiver.on("/hook", Answer(500, headers={"retry-after": "0"}), Answer(204))
        add_endpoint(runtime, tenant_id, receiver.url("/hook"), ("trace.me",))

        post(client, "/api/events", auth, {"eventType": "trace.me"})

        first, second = traceparents(receiver, 2)
    assert first != second
    assert {one[:36] for one in (first, second)} == {CALLER[:36]}
    assert all(tracing.parsed(one) == one for one in (first, second))


def test_each_way_in_keeps_the_trace(
    client: Any, runtime: Runtime, tenant_id: str, auth: dict[str, str], worker: Any
) -> None:
    with HttpReceiver() as receiver:
        add_endpoint(runtime, tenant_id, receiver.url("/hook"), ("trace.me",))
        post(client, "/api/events/batch", auth, {"events": [{"eventType": "trace.me"}, {"eventType": "trace.me"}]})
        post(client, "/api/send/webhook", auth, {"url": receiver.url("/direct"), "payload": {}})

        found = traceparents(receiver, 3)

    assert {one[3:35] for one in found} == {TRACE}
    assert len(set(found)) == 3


@pytest.mark.parametrize("header", [None, "00-nonsense-01", f"ff-{TRACE}-{SPAN}-01"])
def test_without_a_trace_nothing_is_made_up(
    client: Any, runtime: Runtime, tenant_id: str, auth: dict[str, str], worker: Any, header: str | None
) -> None:
    with HttpReceiver() as receiver:
        add_endpoint(runtime, tenant_id, receiver.url("/hook"), ("trace.me",))
        post(client, "/api/events", auth, {"eventType": "trace.me"}, CALLER)
        receiver.wait_for(1)

        post(client, "/api/events", auth, {"eventType": "trace.me"}, header)

        assert traceparents(receiver, 2)[1] == ""


def test_nothing_of_opentelemetry_is_loaded_unless_it_is_wanted() -> None:
    script = (
        "import sys; from app import create_app, make_runtime; from app.running import worker;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(Exception, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        Settings.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})


class TestWithSpans:
    """In real processes, with the extra `tracing`."""

    @pytest.fixture
    def otlp(self) -> Iterator[OtlpReceiver]:
        with OtlpReceiver() as receiver:
            yield receiver

    @pytest.fixture
    def more_settings(self, otlp: OtlpReceiver) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_SERVICE_NAME": "tidings-in-a-test",
        }

    def test_the_spans_of_an_event_are_one_tree_below_the_callers(
        self, web: Service, workers: Service, otlp: OtlpReceiver
    ) -> None:
        with HttpReceiver() as receiver:
            receiver.on("/hook", Answer(500), Answer(204))
            web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
            event_id = posted(web, {"eventType": "order.created", "userId": "ada"})
            sent = receiver.wait_for(1, 30)[0].headers["traceparent"]
            wanted = {"POST /api/events", "plan", "deliver", "send webhook", "send in_app"}
            wait_until(lambda: wanted <= {one.name for one in otlp.of(TRACE)}, 30)

        found: dict[str, Seen] = {one.name: one for one in otlp.of(TRACE)}
        request = found["POST /api/events"]
        assert request.parent == SPAN
        assert request.attributes["http.response.status_code"] == 202
        for name in ("plan", "deliver", "send webhook", "send in_app"):
            assert found[name].parent == request.span, name
            assert found[name].began <= found[name].ended
        assert sent == f"00-{TRACE}-{found['send webhook'].span}-01"
        assert found["send webhook"].failed
        assert found["send webhook"].attributes["tidings.event"] == event_id
        assert found["plan"].attributes["tidings.events"] == event_id
        assert {one.service for one in otlp.spans} == {"tidings-in-a-test"}

    def test_the_databases_statements_are_seen_in_requests_and_nowhere_else(
        self, web: Service, workers: Service, otlp: OtlpReceiver
    ) -> None:
        request = urllib.request.Request(web.url + "/api/rules", headers={"Authorization": f"Bearer {web.key}"})
        request.add_header("traceparent", CALLER)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        wait_until(lambda: len(otlp.of(TRACE)) > 1, 30)
        wait_until(lambda: workers.page("/health/ready"), 30)

        (root,) = [one for one in otlp.of(TRACE) if one.name == "GET /api/rules"]
        statements = [one for one in otlp.of(TRACE) if one.parent == root.span]
        assert statements
        assert not [
            one for one in otlp.spans if not one.parent and one.name.split()[0] in ("SELECT", "UPDATE", "BEGIN")
        ]

    def test_a_caller_that_does_not_sample_is_not_recorded(
        self, web: Service, workers: Service, otlp: OtlpReceiver
    ) -> None:
        with HttpReceiver() as receiver:
            web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
            posted(web, {"eventType": "order.created"}, f"00-{TRACE}-{SPAN}-00")
            sent = receiver.wait_for(1, 30)[0].headers["traceparent"]
            posted(web, {"eventType": "order.created"}, "00-" + "1" * 32 + f"-{SPAN}-01")
            wait_until(lambda: "send webhook" in {one.name for one in otlp.of("1" * 32)}, 30)

        assert (sent[3:35], sent[-2:]) == (TRACE, "00")
        assert not otlp.of(TRACE)

    def test_without_a_callers_trace_the_request_begins_one(
        self, web: Service, workers: Service, otlp: OtlpReceiver
    ) -> None:
        with HttpReceiver() as receiver:
            web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
            web.call("POST", "/api/events", {"eventType": "order.created"})
            sent = receiver.wait_for(1, 30)[0].headers["traceparent"]
            wait_until(lambda: "POST /api/events" in {one.name for one in otlp.of(sent[3:35])}, 30)

    def test_a_receiver_that_is_away_costs_nobody_anything(
        self, web: Service, workers: Service, otlp: OtlpReceiver
    ) -> None:
        for service in (web, workers):
            service.stop()
            service.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
            service.start()

        with HttpReceiver() as receiver:
            web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
            for _ in range(20):
                posted(web, {"eventType": "order.created"})
            receiver.wait_for(20, 30)

        assert (web.stop(), workers.stop()) == (0, 0)


def posted(web: Service, body: dict[str, Any], traceparent: str = CALLER) -> str:
    """Post an event with a trace; returns its id."""
    headers = {"Authorization": f"Bearer {web.key}", "Content-Type": "application/json", "traceparent": traceparent}
    request = urllib.request.Request(web.url + "/api/events", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.loads(answer.read())["id"])
