"""Lanes: work waits only for work of its own lane, and each process says which lanes it serves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from app import rows
from app.broker import Bell
from app.config import LANES, Settings, SettingsError
from app.core import sweeps
from app.core.channels import Channels
from app.core.deliveries import send
from app.core.deliveries.drafts import new_row
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.entrypoints.cli import main
from app.ids import new_id
from app.models import Delivery
from app.running.worker import InProcessWorker
from app.tenancy import tenant
from providers.contract import Channel
from tests.conftest import wait_until
from tests.core.helpers import post_direct, rows_of


def put(runtime: Runtime, tenant_id: str, lane: Lane) -> str:
    """One in-app delivery that waits in a lane; nobody is rung for."""
    row = new_row(new_id(), tenant_id, Channel.IN_APP, runtime.clock.now(), lane.value)
    row |= {"user_id": "ada", "address": "ada", "template": "tidings.test", "trigger": "direct"}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        rows.insert(session, Delivery, [row])
    return row["id"]


def status(runtime: Runtime, tenant_id: str, delivery_id: str) -> str:
    (found,) = rows_of(runtime, tenant_id, Delivery, id=delivery_id)
    return str(found.status)


def test_the_settings_know_the_lanes_that_there_are() -> None:
    assert [lane.value for lane in Lane] == list(LANES)


def test_by_default_every_lane_has_a_share_and_at_least_one_thread() -> None:
    assert Settings(worker_threads=16).lanes == {"transactional": 6, "normal": 5, "bulk": 5}
    assert Settings(worker_threads=1).lanes == {"transactional": 1, "normal": 1, "bulk": 1}
    assert Settings(worker_lanes=(("bulk", 4),)).lanes == {"bulk": 4}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("bulk", "is not a list such as"),
        ("fast=1", "names 'fast', which is none of transactional, normal, bulk"),
        ("bulk=1,bulk=2", "names bulk twice"),
        ("bulk=0", "gives bulk '0' threads, which is not between 1 and 256"),
        ("bulk=many", "gives bulk 'many' threads"),
        (",", "names no lane"),
    ],
)
def test_a_bad_list_of_lanes_is_refused_with_its_fault(given: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"WORKER_LANES: '{given}' {complaint}"):
        Settings.from_env({"WORKER_LANES": given})
    refused = CliRunner().invoke(main, ["worker", "--lanes", given])
    assert refused.exit_code == 1
    assert f"--lanes: '{given}' {complaint}" in refused.output


def test_embedded_no_lane_may_be_left_out() -> None:
    with pytest.raises(SettingsError, match="WORKER_LANES: leaves out normal, bulk"):
        Settings.from_env({"WORKER_LANES": "transactional=2"})


@pytest.fixture
def of_one_lane(runtime: Runtime) -> Runtime:
    """The same installation, seen by a process that serves only what is transactional."""
    return replace(runtime, settings=replace(runtime.settings, worker_lanes=(("transactional", 2),)))


def test_a_worker_serves_the_lanes_that_it_was_given(of_one_lane: Runtime, tenant_id: str) -> None:
    # given something in two lanes, and a worker for one of them
    bulk = put(of_one_lane, tenant_id, Lane.BULK)
    urgent = put(of_one_lane, tenant_id, Lane.TRANSACTIONAL)
    worker = InProcessWorker(of_one_lane)
    worker.start()
    try:
        # when the bell rings for both
        for lane in (Lane.BULK, Lane.TRANSACTIONAL):
            of_one_lane.bell.ring(Job.DELIVER, lane)
        wait_until(lambda: status(of_one_lane, tenant_id, urgent) != "pending")
    finally:
        worker.stop()
    # then the other waits for somebody else
    assert status(of_one_lane, tenant_id, bulk) == "pending"


def test_with_the_queue_away_the_sweep_works_only_for_the_lanes_of_its_process(
    of_one_lane: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = put(of_one_lane, tenant_id, Lane.BULK)
    urgent = put(of_one_lane, tenant_id, Lane.TRANSACTIONAL)
    monkeypatch.setattr(Bell, "ring", lambda *_: False)
    sweeps.ring_for_due(of_one_lane)
    assert status(of_one_lane, tenant_id, urgent) != "pending"
    assert status(of_one_lane, tenant_id, bulk) == "pending"


def test_a_worker_without_a_channels_provider_leaves_its_rows_to_those_that_have_one(
    runtime: Runtime, tenant_id: str
) -> None:
    # given a message that waits, and a worker process that was started without the settings of its channel
    delivery_id = post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Ada")
    bare = replace(runtime, channels=Channels({}, {}))
    # when it works
    assert send.deliver(bare, Lane.TRANSACTIONAL) == 0
    # then nothing has become of the message, and a process with the settings sends it
    assert status(runtime, tenant_id, delivery_id) == "pending"
    assert send.deliver(runtime, Lane.TRANSACTIONAL) == 1
    assert status(runtime, tenant_id, delivery_id) == "delivered"
