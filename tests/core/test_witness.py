"""What is counted and told of each step, and that it is told only of what is written."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.core import pipeline
from app.core.deliveries import send
from app.core.deliveries.witness import kind_of
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.tenancy import tenant
from providers.contract import Channel
from tests.core.helpers import accept, add_endpoint, drain, keep_only, post_direct
from tests.servers.http import Answer, HttpReceiver


def figure(name: str, **labels: str) -> float:
    """What a metric of this process says; 0 when it says nothing."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("timeout", "timeout"),
        ("http_503", "http_503"),
        ("http_418", "http_4xx"),
        ("http_599", "http_5xx"),
        ("smtp_550", "smtp_550"),
        ("smtp_571", "smtp_5xx"),
        ("twilio_20003", "twilio_20003"),
        ("twilio_30008", "twilio_3xxxx"),
        ("twilio_999999999", "twilio_9xxxx"),
        ("preference_person_all", "preference_person_all"),
    ],
)
def test_codes_with_numbers_are_some_hundred_labels_at_most(code: str, kind: str) -> None:
    assert kind_of(code) == kind


def test_receivers_cannot_make_labels_without_end() -> None:
    assert len({kind_of(f"http_{status}") for status in range(100, 1000)}) < 30
    assert len({kind_of(f"twilio_{code}") for code in range(100_000)}) < 60


def test_what_is_rolled_back_is_neither_counted_nor_told(runtime: Runtime, tenant_id: str) -> None:
    before = figure("tidings_events_accepted_total", lane="normal")

    with capture_logs() as lines, pytest.raises(RuntimeError), runtime.db.transaction(tenant(tenant_id)) as session:
        pipeline.accept_events(session, runtime, tenant_id, [EventInput("a.b")])
        raise RuntimeError

    assert figure("tidings_events_accepted_total", lane="normal") == before
    assert not [line for line in lines if line["event"] == "event_accepted"]


@pytest.mark.usefixtures("whole_pages")
def test_a_batch_is_one_line_for_each_step_whatever_its_size(runtime: Runtime, tenant_id: str) -> None:
    keep_only(runtime, tenant_id, "in_app")
    people = tuple(f"person-{number}" for number in range(40))
    before = figure("tidings_deliveries_total", channel="in_app", result="sent")

    with capture_logs() as lines:
        (event_id,) = accept(runtime, tenant_id, EventInput("order.created", user_ids=people))
        pipeline.plan_events(runtime, Lane.NORMAL)
        drain(runtime)

    mine = [line for line in lines if event_id in line.get("events", ())]
    told = {line["event"]: line for line in mine}
    assert len(told) == len(mine)
    # What is written together with its results is never claimed.
    assert {name: line["count"] for name, line in told.items() if name != "deliveries_claimed"} == {
        "event_accepted": 1,
        "events_planned": 40,
        "deliveries_tried": 40,
    }
    assert set(told["deliveries_tried"]["deliveries"]) == set(told["events_planned"]["deliveries"])
    assert figure("tidings_deliveries_total", channel="in_app", result="sent") == before + 40


def test_a_line_names_a_hundred_ids_at_most(runtime: Runtime, tenant_id: str) -> None:
    with capture_logs() as lines:
        accept(runtime, tenant_id, *[EventInput("nobody.wants.this") for _ in range(130)])

    (line,) = [line for line in lines if line["event"] == "event_accepted"]
    assert (line["count"], len(line["events"])) == (130, 100)


def test_a_failed_try_is_a_warning_with_its_code_and_counted_by_it(runtime: Runtime, tenant_id: str) -> None:
    labels = {"channel": "webhook", "provider": "webhook", "code": "http_4xx"}
    before = figure("tidings_provider_errors_total", **labels)
    retried = figure("tidings_deliveries_total", channel="webhook", result="retried")
    with HttpReceiver() as receiver, capture_logs() as lines:
        receiver.on("/hook", Answer(418))
        add_endpoint(runtime, tenant_id, receiver.url("/hook"))
        (event_id,) = accept(runtime, tenant_id, EventInput("a.b"))
        pipeline.plan_events(runtime, Lane.NORMAL)

    (line,) = [line for line in lines if line["event"] == "deliveries_tried"]
    assert (line["log_level"], line["result"], line["code"]) == ("warning", "retried", "http_418")
    assert line["events"] == [event_id]
    assert figure("tidings_provider_errors_total", **labels) == before + 1
    assert figure("tidings_deliveries_total", channel="webhook", result="retried") == retried + 1


def test_the_wait_for_the_wire_is_measured_from_acceptance_and_once(runtime: Runtime, tenant_id: str) -> None:
    labels = {"channel": "in_app", "lane": "transactional"}
    count, total = (figure(f"tidings_accept_to_wire_seconds_{what}", **labels) for what in ("count", "sum"))

    post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Hello")
    send.deliver(runtime, Lane.TRANSACTIONAL)

    assert figure("tidings_accept_to_wire_seconds_count", **labels) == count + 1
    assert 0 <= figure("tidings_accept_to_wire_seconds_sum", **labels) - total < 60


def test_the_counters_that_alerts_look_at_begin_with_nought(runtime: Runtime) -> None:
    for name, labels in (
        ("tidings_leases_expired_total", {"kind": "delivery"}),
        ("tidings_admission_refused_total", {"lane": "bulk", "why": "backlog"}),
        ("tidings_provider_refusals_total", {"channel": "sms"}),
        ("tidings_events_planned_total", {"status": "failed"}),
        ("tidings_wakeups_lost_total", {"step": "plan", "lane": "bulk"}),
    ):
        assert REGISTRY.get_sample_value(name, labels) is not None, name


@pytest.fixture(autouse=True)
def _plain_logs() -> Any:
    structlog.reset_defaults()
