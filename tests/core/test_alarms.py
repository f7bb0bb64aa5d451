"""Rings for later: each service is rung for, whoever else lives in its process."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from app.broker import Bell
from app.core.deliveries import alarms
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime


class _Listened(Bell):
    def __init__(self, bell: Bell) -> None:
        super().__init__(bell.broker, bell._flags)
        self.rung = threading.Event()

    def ring(self, job: str, lane: str) -> bool:
        assert (job, lane) == (Job.DELIVER, Lane.NORMAL)
        self.rung.set()
        return True


def test_two_services_of_one_process_are_each_rung_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    # given two services, each with something that is due at the same moment
    services = [replace(runtime, bell=_Listened(runtime.bell)) for _ in range(2)]
    at = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: at)
        for service in services:
            alarms.ring_in(service, Lane.NORMAL, 0.1)
    # then neither's ring is taken for the other's
    assert all(service.bell.rung.wait(30) for service in services)  # type: ignore[attr-defined]
