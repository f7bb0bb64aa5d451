"""Who holds which thread: one service's do not hold back another that lives in the same process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app import make_runtime
from app.config import Settings
from app.core.deliveries import gates
from app.core.deliveries.gates import Room
from app.core.outbox import Lane
from app.core.runtime import Runtime
from providers.contract import Channel


@pytest.fixture
def other(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(settings)
    yield made
    made.channels.close()
    made.bell.close()
    made.db.close()


def test_a_full_service_leaves_another_its_threads(runtime: Runtime, other: Runtime, tenant_id: str) -> None:
    # given a service with no room left for mail, and a suspect under way
    rooms = [Room(runtime, Lane.NORMAL) for _ in range(100)]
    assert [room for room in rooms if room.enter(Channel.EMAIL, tenant_id)]
    assert not rooms[-1].enter(Channel.EMAIL, tenant_id)
    assert rooms[0].enter_alone()
    # then another has all of its own
    with Room(other, Lane.NORMAL) as room:
        assert gates.longest_hold(other) == 0
        assert room.enter(Channel.EMAIL, tenant_id)
        assert room.enter_alone()
    for held in rooms:
        held.give_back(Channel.EMAIL)
    rooms[0].leave_alone()
    assert gates.longest_hold(runtime) == 0
