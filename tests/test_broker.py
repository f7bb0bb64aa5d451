"""The bell's own threads: there while it is used, and gone with it."""

from __future__ import annotations

import threading

import pytest

from app import make_runtime
from app.config import Settings
from app.core.outbox import Job, Lane
from app.running.worker import InProcessWorker
from tests.conftest import wait_until


@pytest.mark.parametrize("shape", ["production"])
def test_a_bell_that_is_closed_leaves_no_thread(settings: Settings) -> None:
    # given a service that has heard its bell
    before = set(threading.enumerate())
    runtime = make_runtime(settings)
    worker = InProcessWorker(runtime)
    worker.start()
    runtime.bell.ring_soon(Job.DELIVER, Lane.NORMAL)
    wait_until(lambda: {"bell", "ringer"} <= {one.name for one in set(threading.enumerate()) - before})
    # when it ends
    assert worker.stop()
    runtime.bell.close()
    runtime.db.close()
    # then nothing of it is left
    wait_until(lambda: not {one.name for one in set(threading.enumerate()) - before} & {"bell", "ringer"})
