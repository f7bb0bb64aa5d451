"""The caller's trace: through web, queue and worker to the receiver, with spans where they are wanted and without."""

from __future__ import annotations

import json
import secrets
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
from tests.seeing.conftest import web_of, workers_of
from tests.seeing.otlp import OtlpReceiver, Seen
from tests.servers.http import Answer, HttpReceiver
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.timeout(300)  # real processes, on a machine that may be busy
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


def test_nothing_that_records_spans_is_loaded_unless_it_is_wanted() -> None:
    """redis-py loads a part of OpenTelemetry by itself where it is installed; not what records and sends spans."""
    script = "import sys, app; from app.running import worker; print(*sys.modules)"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert "app.tracing" in found
    ours = ("app.tracing_otel", "opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.instrumentation")
    assert not [name for name in found if name.startswith(ours)]


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(Exception, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        Settings.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})


@pytest.fixture(scope="module")
def otlp() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def web(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    postgres_template: str,
    redis: RedisServer,
    otlp: OtlpReceiver,
) -> Iterator[Service]:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "60",  # seconds: longer than the end of a process may take
        "OTEL_SERVICE_NAME": "tidings-in-a-test",
    }
    with web_of(tmp_path_factory.mktemp("spans"), postgres, postgres_template, redis, **settings) as service:
        yield service


@pytest.fixture(scope="module")
def workers(web: Service) -> Iterator[Service]:
    with workers_of(web) as service:
        yield service


class TestWithSpans:
    """In real processes, with the extra `tracing`."""

    @pytest.fixture
    def receiver(self, web: Service) -> Iterator[HttpReceiver]:
        """A subscriber of everything, as long as a test lasts."""
        with HttpReceiver() as receiver:
            made = web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
            yield receiver
            web.call("DELETE", f"/api/webhooks/configurations/{made['id']}")

    @pytest.fixture
    def trace(self) -> str:
        """A trace that nobody else has."""
        return secrets.token_hex(16)

    def test_the_spans_of_an_event_are_one_tree_below_the_callers(
        self, web: Service, workers: Service, otlp: OtlpReceiver, receiver: HttpReceiver, trace: str
    ) -> None:
        receiver.on("/hook", Answer(500), Answer(204))
        event_id = posted(web, {"eventType": "order.created", "userId": "ada"}, f"00-{trace}-{SPAN}-01")
        sent = receiver.wait_for(1, 30)[0].headers["traceparent"]
        wanted = {"POST /api/events", "plan", "deliver", "send webhook", "send in_app"}
        wait_until(lambda: wanted <= {one.name for one in otlp.of(trace)}, 30)

        found: dict[str, Seen] = {one.name: one for one in reversed(otlp.of(trace))}
        request = found["POST /api/events"]
        assert request.parent == SPAN
        assert request.attributes["http.response.status_code"] == 202
        for name in ("plan", "deliver", "send webhook", "send in_app"):
            assert found[name].parent == request.span, name
            assert found[name].began <= found[name].ended
        assert sent == f"00-{trace}-{found['send webhook'].span}-01"
        assert found["send webhook"].failed
        assert found["send webhook"].attributes["tidings.event"] == event_id
        assert found["plan"].attributes["tidings.events"] == event_id
        assert {one.service for one in otlp.spans} == {"tidings-in-a-test"}

    def test_the_databases_statements_are_seen_in_requests_and_nowhere_else(
        self, web: Service, workers: Service, otlp: OtlpReceiver, trace: str
    ) -> None:
        request = urllib.request.Request(web.url + "/api/rules", headers={"Authorization": f"Bearer {web.key}"})
        request.add_header("traceparent", f"00-{trace}-{SPAN}-01")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        wait_until(lambda: "GET /api/rules" in {one.name for one in otlp.of(trace)}, 30)  # which ends last

        (root,) = [one for one in otlp.of(trace) if one.name == "GET /api/rules"]
        assert [one for one in otlp.of(trace) if one.parent == root.span]
        strays = [one.name for one in otlp.spans if not one.parent and " /api" not in one.name]
        assert not strays

    def test_a_caller_that_does_not_sample_is_not_recorded(
        self, web: Service, workers: Service, otlp: OtlpReceiver, receiver: HttpReceiver, trace: str
    ) -> None:
        sampled = secrets.token_hex(16)
        posted(web, {"eventType": "order.created"}, f"00-{trace}-{SPAN}-00")
        sent = receiver.wait_for(1, 30)[0].headers["traceparent"]
        posted(web, {"eventType": "order.created"}, f"00-{sampled}-{SPAN}-01")
        wait_until(lambda: "send webhook" in {one.name for one in otlp.of(sampled)}, 30)

        assert (sent[3:35], sent[-2:]) == (trace, "00")
        assert not otlp.of(trace)

    def test_without_a_callers_trace_the_request_begins_one(
        self, web: Service, workers: Service, otlp: OtlpReceiver, receiver: HttpReceiver
    ) -> None:
        web.call("POST", "/api/events", {"eventType": "order.created"})
        sent = receiver.wait_for(1, 30)[0].headers["traceparent"]
        wait_until(lambda: "POST /api/events" in {one.name for one in otlp.of(sent[3:35])}, 30)

    def test_a_receiver_of_traces_that_goes_away_costs_nobody_anything(
        self, web: Service, workers: Service, otlp: OtlpReceiver, receiver: HttpReceiver, trace: str
    ) -> None:
        otlp.close()

        for _ in range(20):
            posted(web, {"eventType": "order.created"}, f"00-{trace}-{SPAN}-01")
        receiver.wait_for(20, 30)

        assert workers.stop() == 0


def posted(web: Service, body: dict[str, Any], traceparent: str) -> str:
    """Post an event with a trace; returns its id."""
    headers = {"Authorization": f"Bearer {web.key}", "Content-Type": "application/json", "traceparent": traceparent}
    request = urllib.request.Request(web.url + "/api/events", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.loads(answer.read())["id"])
