"""Admission: what waits too long already is not added to, the least urgent first, and nobody is refused by mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text

from app.config import Settings
from app.core import backlog, sweeps
from app.core.admission import Admission, OverloadedError, SilentDatabaseError
from app.core.backlog import Pressure
from app.core.deliveries import breakers
from app.core.direct import DirectSend, send_direct
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.tenancy import Purpose, system, tenant
from providers.contract import Channel
from tests.conftest import wait_until
from tests.core.helpers import accept, drain
from tests.core.scripted import Scripted, with_providers

LANES = tuple(Lane)


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, max_backlog=10, max_backlog_transactional=20)


def wait(runtime: Runtime, tenant_id: str, lane: Lane, count: int) -> None:
    """So many events wait in a lane, and the sweep has counted."""
    accept(runtime, tenant_id, *[EventInput("a.b", lane=lane)] * count)
    measure(runtime)


def measure(runtime: Runtime) -> None:
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        backlog.measure(session, runtime.clock.now())


def age(runtime: Runtime, seconds: float) -> None:
    """The last measurement was made so long ago."""
    then = runtime.clock.now() - timedelta(seconds=seconds)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        value = {"then": then if not runtime.settings.embedded else then.isoformat().replace("+00:00", "Z")}
        session.execute(text("UPDATE service_state SET measured_at = :then"), value)


def refused(runtime: Runtime, tenant_id: str) -> list[Lane]:
    """The lanes that are closed to a tenant, as one sees it who looks now."""
    found = []
    for lane in LANES:
        try:
            Admission(runtime, every_seconds=0).judge([lane], tenant_id)
        except OverloadedError as error:
            assert error.retry_after > 0
            found.append(lane)
    return found


def test_a_lane_is_closed_by_what_waits_in_it_and_before_it(runtime: Runtime, tenant_id: str) -> None:
    assert refused(runtime, tenant_id) == []
    # given as much bulk as may wait: it closes its own lane and no other
    wait(runtime, tenant_id, Lane.BULK, 10)
    assert refused(runtime, tenant_id) == [Lane.BULK]
    # when there is as much normal work, then all is closed but what is transactional
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    assert refused(runtime, tenant_id) == [Lane.NORMAL, Lane.BULK]
    # and that has a limit of its own
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 19)
    assert refused(runtime, tenant_id) == [Lane.NORMAL, Lane.BULK]
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 1)
    assert refused(runtime, tenant_id) == list(LANES)


def test_urgent_work_closes_the_lanes_behind_it(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 10)
    assert refused(runtime, tenant_id) == [Lane.NORMAL, Lane.BULK]


def test_several_lanes_at_once_are_taken_or_refused_together(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.BULK, 10)
    judge = Admission(runtime).judge
    judge([Lane.NORMAL, Lane.TRANSACTIONAL], tenant_id)
    judge([], tenant_id)
    with pytest.raises(OverloadedError) as caught:
        judge([Lane.TRANSACTIONAL, Lane.BULK], tenant_id)
    assert "bulk" in caught.value.detail


def test_what_waits_for_a_later_try_closes_nothing(runtime: Runtime, tenant_id: str) -> None:
    accept(runtime, tenant_id, *[EventInput("a.b")] * 10)
    later = "'2999-01-01T00:00:00.000000Z'"
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text(f"UPDATE event_logs SET next_attempt_at = {later}"))
    measure(runtime)
    assert refused(runtime, tenant_id) == []


def others(tenant_id: str, count: int) -> list[str]:
    """Ids of tenants besides."""
    return [str(UUID(int=UUID(tenant_id).int ^ n)) for n in range(1, count + 1)]


def pressure(**due: int) -> Pressure:
    """So much of each, and nothing held back."""
    return Pressure(sum(due.values()), len(due), due, due)


def test_who_has_filled_a_lane_closes_it_to_no_other(runtime: Runtime, tenant_id: str) -> None:
    # given a tenant with far more than may wait, as after one event to a large topic
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 100)
    # then it is refused, and nobody else
    assert refused(runtime, tenant_id) == list(LANES)
    assert refused(runtime, *others(tenant_id, 1)) == []


def test_a_full_lane_is_shared_by_those_that_have_something_in_it() -> None:
    found = pressure(much=8, little=2)
    # given that ten may wait: five are the share of each
    assert [found.closes_to(one, 10) for one in ("much", "little", "none")] == [True, False, False]
    # and while it is not full, each may take what the others leave
    assert [found.closes_to(one, 11) for one in ("much", "little", "none")] == [False, False, False]


def test_nobody_is_counted_beyond_his_share_and_beyond_twice_the_limit_all_are_refused() -> None:
    # given three that posted to large topics
    crowd = pressure(a=1000, b=1000, c=1000)
    assert not crowd.closes_to("none", 10)
    # and then so many small ones that nobody keeps account of each
    many = Pressure(20, 1000, {}, {})
    assert many.closes_to("none", 10)
    assert not Pressure(19, 1000, {}, {}).closes_to("none", 10)


def test_a_tenant_whose_bulk_is_full_still_posts_what_is_urgent(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.BULK, 19)
    assert refused(runtime, tenant_id) == [Lane.BULK]


@pytest.mark.parametrize("why", ["down", "rate"])
def test_what_waits_for_a_provider_closes_the_lane_to_nobody(runtime: Runtime, tenant_id: str, why: str) -> None:
    # given more mail than may wait, and a provider that takes none of it now
    house = with_providers(runtime, Scripted(Channel.EMAIL))
    house = replace(house, settings=replace(house.settings, email_rate="1 per hour" if why == "rate" else None))
    with house.db.transaction(system(Purpose.SWEEP)) as session:
        if why == "down":
            breakers.open_one(session, house, "email:scripted", "timeout")
    mail = DirectSend(Channel.EMAIL, ("ada@example.com",), {"subject": "s", "text": "t"}, lane=Lane.NORMAL)

    def post(count: int) -> None:
        with house.db.transaction(tenant(tenant_id)) as session:
            for _ in range(count):
                send_direct(session, house, tenant_id, mail)

    post(15)
    drain(house)
    sweeps.sweep(house)
    assert refused(house, tenant_id) == []
    # and its tenant may leave twice as much there as may be due, not more
    post(6)
    with house.db.transaction(system(Purpose.MIGRATE)) as session:
        session.execute(text("DELETE FROM service_state"))
    sweeps.sweep(house)
    assert refused(house, tenant_id) == [Lane.NORMAL, Lane.BULK]
    assert refused(house, *others(tenant_id, 1)) == []


def test_the_doors_open_when_the_work_is_done(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    assert refused(runtime, tenant_id) == [Lane.NORMAL, Lane.BULK]
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE event_logs SET status = 'planned'"))
    measure(runtime)
    assert refused(runtime, tenant_id) == []


def test_without_a_fresh_figure_all_are_let_in(runtime: Runtime, tenant_id: str) -> None:
    # given a full lane that was counted half a minute ago, and then more than a minute, and by nobody since
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    age(runtime, 30)
    assert refused(runtime, tenant_id) == [Lane.NORMAL, Lane.BULK]
    age(runtime, 70)
    assert refused(runtime, tenant_id) == []


def test_the_figure_is_read_once_for_all_within_a_second(runtime: Runtime, tenant_id: str) -> None:
    admission = Admission(runtime, every_seconds=3600)
    admission.judge(LANES, tenant_id)
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    admission.judge(LANES, tenant_id)


def test_while_the_database_cannot_be_read_nobody_is_let_in(runtime: Runtime, tenant_id: str, owner: Any) -> None:
    admission = Admission(runtime, every_seconds=0)
    owner("ALTER TABLE service_state RENAME TO away")
    for lane in LANES:
        with pytest.raises(OverloadedError):
            admission.judge([lane], tenant_id)
    owner("ALTER TABLE away RENAME TO service_state")
    admission.judge(LANES, tenant_id)


def test_the_door_opens_soon_after_the_database_is_back(runtime: Runtime, tenant_id: str, owner: Any) -> None:
    # given a reading that is good for an hour when it goes well
    admission = Admission(runtime, every_seconds=3600)
    owner("ALTER TABLE service_state RENAME TO away")
    with pytest.raises(OverloadedError):
        admission.judge(LANES, tenant_id)
    # when the database is back, then nobody is refused for the rest of the hour
    owner("ALTER TABLE away RENAME TO service_state")

    def is_let_in() -> bool:
        try:
            admission.judge(LANES, tenant_id)
        except OverloadedError:
            return False
        return True

    wait_until(is_let_in)


def test_while_every_connection_is_in_use_nobody_is_let_in_and_nobody_waits(runtime: Runtime, tenant_id: str) -> None:
    admission = Admission(runtime, every_seconds=0)
    taken = []
    while not runtime.db.exhausted:
        taken.append(runtime.db.engine.connect())
    with pytest.raises(OverloadedError):
        admission.judge([Lane.TRANSACTIONAL], tenant_id)
    for connection in taken:
        connection.close()
    admission.judge(LANES, tenant_id)


@pytest.mark.parametrize("shape", ["production"])
def test_a_reading_that_lasts_keeps_nobody_waiting_and_refuses_all(
    runtime: Runtime, tenant_id: str, owner: Any
) -> None:
    # given a database that does not come to an end with the question
    hasty = replace(runtime, settings=replace(runtime.settings, max_database_delay=200))
    admission = Admission(hasty, every_seconds=0)

    def is_refused() -> bool:
        try:
            admission.judge([Lane.TRANSACTIONAL], tenant_id)
        except OverloadedError:
            return True
        return False

    held = owner("LOCK TABLE service_state IN ACCESS EXCLUSIVE MODE", hold=True)
    # then whoever asks is refused, the first of them too, and whatever is wanted; while it has no answer
    assert is_refused()
    assert is_refused()
    with pytest.raises(SilentDatabaseError):
        admission.look()
    held.rollback()
    held.close()
    wait_until(lambda: not is_refused())

    def is_served() -> bool:
        try:
            admission.look()
        except SilentDatabaseError:
            return False
        return True

    wait_until(is_served)


def test_a_database_that_fails_at_once_is_left_to_each_request(runtime: Runtime, tenant_id: str, owner: Any) -> None:
    admission = Admission(runtime, every_seconds=0)
    owner("ALTER TABLE service_state RENAME TO away")
    with pytest.raises(OverloadedError):
        admission.judge(LANES, tenant_id)
    admission.look()


@pytest.fixture
def owner(shape: str, runtime: Runtime, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Says something to the database as its owner; with `hold` in a transaction that stays open, and is returned."""
    url = runtime.db.url
    if shape == "production":
        server = request.getfixturevalue("postgres")
        url = server.url_for("postgres", url.database).replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)

    def say(words: str, *, hold: bool = False) -> Any:
        connection = engine.connect()
        connection.exec_driver_sql(words)
        if hold:
            return connection
        connection.commit()
        connection.close()
        return None

    yield say
    engine.dispose()
