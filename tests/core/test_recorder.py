"""Results are written once, also when nobody hears whether they were."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.core.deliveries import claims, outcome
from app.core.deliveries.claims import Claim
from app.core.deliveries.outcome import Tried
from app.core.deliveries.recorder import Recorder
from app.core.runtime import Runtime
from app.db import Database
from app.models import Attempt, Delivery
from app.tenancy import tenant
from providers.contract import Accepted, Channel, RetryableError
from tests.conftest import wait_until
from tests.core.helpers import post_direct, rows_of
from tests.servers.relay import Relay


def claimed(runtime: Runtime, tenant_id: str) -> Claim:
    made = post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="x")
    with runtime.db.work(tenant(tenant_id)) as work:
        (found,) = claims.claim_these(work, tenant_id, [made], runtime.clock.now(), 60)
    return found


def test_a_try_that_is_given_back_twice_is_given_back_once(runtime: Runtime, tenant_id: str) -> None:
    unsent = Tried(claimed(runtime, tenant_id), None, None)
    for _ in range(2):
        with runtime.db.work(tenant(tenant_id)) as work:
            outcome.record(work, runtime, tenant_id, [unsent], random.Random(1))
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.tries) == ("pending", 0)


class TestOnABreakingNetwork:
    """Every COMMIT is carried out, and its answer lost."""

    @pytest.fixture
    def shape(self) -> str:
        return "production"

    @pytest.fixture
    def relay(self, runtime: Runtime) -> Iterator[Relay]:
        made = Relay(runtime.db.url.port or 5432)
        yield made
        made.close()

    @pytest.mark.parametrize(
        ("result", "becomes"),
        [
            (Accepted("id"), ("sent", 1, "accepted")),
            (RetryableError("timeout"), ("pending", 1, "retryable")),
            (None, ("pending", 0, "returned")),
        ],
    )
    def test_what_is_written_again_is_as_if_written_once(
        self, runtime: Runtime, tenant_id: str, relay: Relay, result: object, becomes: tuple[str, int, str]
    ) -> None:
        # given a result whose COMMIT is carried out without anybody hearing of it
        url = runtime.db.url.set(port=relay.port).render_as_string(hide_password=False)
        house = replace(runtime, db=Database(url))
        tried = Tried(claimed(runtime, tenant_id), "in_app", result)  # type: ignore[arg-type]
        relay.breaks_commits.set()
        recorder = Recorder(house, tenant_id, threaded=False, until=time.monotonic() + 60)
        recorder.add(tried)
        writer = threading.Thread(target=recorder.close)
        writer.start()
        wait_until(lambda: relay.broken >= 2)
        # when the network holds again
        relay.breaks_commits.clear()
        writer.join()
        # then the delivery and its attempt are as if it had been written once
        (found,), (attempt,) = (rows_of(runtime, tenant_id, model) for model in (Delivery, Attempt))
        assert (found.status, found.tries, attempt.outcome) == becomes
        house.db.close()
