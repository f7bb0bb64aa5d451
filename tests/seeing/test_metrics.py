"""Metrics of several processes: each command's are one set, whatever becomes of its processes."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import wait_until
from tests.docs.service import Service
from tests.servers.http import HttpReceiver

pytestmark = pytest.mark.timeout(300)  # real processes, on a machine that may be busy


def figures(service: Service) -> dict[str, float]:
    """All figures of a command: {"name{label=value,…}": figure}."""
    found = {}
    for family in text_string_to_metric_families(service.page("/metrics")):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def children(service: Service) -> list[int]:
    """The processes that a parent watches over."""
    return [int(one) for one in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()]


def test_an_event_is_counted_at_every_step(web: Service, workers: Service) -> None:
    with HttpReceiver() as receiver:
        web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
        for _ in range(5):
            web.call("POST", "/api/events", {"eventType": "order.created", "userId": "ada"})
        receiver.wait_for(5, 30)

        sent = "tidings_deliveries_total{channel=webhook,result=sent}"
        wait_until(lambda: figures(workers).get(sent) == 5, 30)
    # then what the sweep measures comes with one of its rounds
    measured = {"tidings_backlog{lane=normal,status=pending}": 0, "tidings_oldest_due_seconds{lane=bulk}": 0}
    measured |= {"tidings_part_up{part=database}": 1, "tidings_part_up{part=redis}": 1}
    wait_until(lambda: figures(workers).items() >= measured.items(), 30)
    wait_until(lambda: figures(workers).get("tidings_last_sweep_timestamp_seconds"), 30)
    # and every step has been counted
    assert figures(web)["tidings_events_accepted_total{lane=normal}"] == 5
    found = figures(workers)
    assert found["tidings_events_planned_total{status=planned}"] == 5
    assert found["tidings_deliveries_planned_total{channel=webhook,lane=normal}"] == 5
    assert found["tidings_deliveries_skipped_total{channel=email,reason=no_provider}"] == 5
    assert found["tidings_accept_to_wire_seconds_count{channel=webhook,lane=normal}"] == 5
    assert 0 < found["tidings_accept_to_wire_seconds_sum{channel=webhook,lane=normal}"] < 60
    assert "tidings_events_accepted_total{lane=normal}" not in found


def test_no_count_goes_back_when_a_process_dies(web: Service, workers: Service) -> None:
    accepted = "tidings_events_accepted_total{lane=normal}"
    with HttpReceiver() as receiver:
        web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
        for round_ in range(2):
            for _ in range(4):
                web.call("POST", "/api/events", {"eventType": "order.created"})
            receiver.wait_for(4 * (round_ + 1), 90)
            wait_until(
                lambda count=4 * (round_ + 1): (
                    figures(workers).get("tidings_deliveries_total{channel=webhook,result=sent}") == count
                ),
                90,
            )
            for service in (web, workers):
                before = children(service)
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                wait_until(lambda one=service, old=before: len(set(children(one)) - set(old)) == len(old), 90)
            wait_until(web._ready, 90)
            wait_until(workers._ready, 90)
            assert figures(web)[accepted] == 4 * (round_ + 1)

    folder = web.folder / "metrics"
    assert len(list(folder.glob("web-*/counter_*.db"))) == 2
    assert len(list(folder.glob("worker-*/counter_*.db"))) == 2


def test_a_new_start_begins_with_an_empty_folder(web: Service) -> None:
    web.call("POST", "/api/events", {"eventType": "order.created"})
    assert figures(web)["tidings_events_accepted_total{lane=normal}"] == 1

    web.kill()
    web.start()

    assert "tidings_events_accepted_total{lane=normal}" not in figures(web)


def test_the_workers_metrics_are_for_this_machine_or_for_a_token(web: Service, workers: Service) -> None:
    def status(address: str, **headers: str) -> int:
        request = urllib.request.Request(address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    page = workers.url + "/metrics"
    assert (status(page), status(page, **{"X-Forwarded-For": "127.0.0.1"})) == (200, 403)
    assert status(workers.url + "/elsewhere") == 404

    workers.stop()
    workers.settings["METRICS_TOKEN"] = "let me see"
    workers.start()

    assert (
        status(page),
        status(page, Authorization="Bearer guess"),
        status(page, Authorization="Bearer let me see"),
    ) == (
        401,
        401,
        200,
    )
    command = Path(f"/proc/{workers.pid}/cmdline").read_bytes()
    assert b"let me see" not in command


def test_a_port_that_is_taken_is_refused(web: Service, workers: Service) -> None:
    second = workers.run("worker")

    assert second.returncode == 1
    assert "WORKER_PORT: nobody can listen on" in second.stderr
    assert workers.page("/health/live")
