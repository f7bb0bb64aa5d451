"""One tenant's many, or slow, deliveries do not delay another's one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import select, text

from app import rows
from app.broker import make_bell
from app.config import Settings
from app.core.deliveries import claims, content, event_claims, send, turns
from app.core.deliveries.drafts import new_row
from app.core.deliveries.gates import Limits, Room
from app.core.outbox import Job, Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.entrypoints import actors
from app.ids import new_id
from app.models import Delivery, Tenant
from app.running.worker import InProcessWorker
from app.tenancy import Purpose, system, tenant
from providers.contract import Accepted, Channel, OutboundMessage
from tests.conftest import wait_until
from tests.core.helpers import accept, rows_of, rows_read
from tests.core.scripted import Scripted, with_providers
from tests.servers.postgres import PostgresServer

SLOW, QUICK = "+15550000001", "+15550000002"


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, sweep_seconds=60)


def add_tenant(runtime: Runtime, like: str) -> str:
    """Another tenant of the installation; returns its id."""
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        sealed = session.execute(select(Tenant.webhook_secret).where(Tenant.id == like)).scalar_one()
        made = Tenant(name="another", webhook_secret=sealed, created_at=runtime.clock.now())
        session.add(made)
        session.flush()
        return made.id


def put(runtime: Runtime, tenant_id: str, channel: Channel, address: str, count: int) -> list[str]:
    """Deliveries that wait in the normal lane, with their words; nobody is rung for."""
    now = runtime.clock.now()
    made = [
        new_row(new_id(), tenant_id, channel, now, Lane.NORMAL.value) | {"address": address, "trigger": "direct"}
        for _ in range(count)
    ]
    words = {"text": "Words", "title": "Hello", "payload": "{}"}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        rows.insert(session, Delivery, made)
        content.keep(session, tenant_id, {row["id"]: words for row in made}, now)
    return [row["id"] for row in made]


class Gate:
    """A provider's act that keeps whoever sends to SLOW waiting until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def act(self, message: OutboundMessage) -> Accepted:
        if message.to == SLOW:
            self.opened.wait(30)
        return Accepted("id")


@pytest.mark.parametrize("threads", range(1, 40))
def test_whatever_one_tenant_holds_leaves_room_for_another(threads: int) -> None:
    limits = Limits.of(threads)
    assert 1 <= limits.tenant_on_channel <= limits.channel
    assert 1 <= limits.tenant_slow <= limits.slow
    assert limits.slow < threads or threads == 1
    if threads > 2:
        assert limits.tenant_on_channel < limits.channel
        assert limits.tenant_slow < limits.slow


def test_one_tenant_alone_does_not_fill_a_channel(runtime: Runtime, tenant_id: str) -> None:
    another = add_tenant(runtime, tenant_id)
    rooms = [Room(runtime, Lane.NORMAL) for _ in range(20)]
    try:
        mine = [room for room in rooms if room.enter(Channel.SMS, tenant_id)]
        assert mine
        (room,) = [room for room in rooms if room not in mine][:1]
        assert room.enter(Channel.SMS, another)
    finally:
        for room in rooms:
            room.give_back(Channel.SMS)


def test_one_tenant_alone_does_not_fill_all_channels_together(runtime: Runtime, tenant_id: str) -> None:
    another = add_tenant(runtime, tenant_id)
    slow = (Channel.EMAIL, Channel.SMS, Channel.WEBHOOK)
    rooms = [(Room(runtime, Lane.NORMAL), channel) for _ in range(20) for channel in slow]
    try:
        held = [room.enter(channel, tenant_id) for room, channel in rooms]
        assert any(held)
        free = [room for (room, _), mine in zip(rooms, held, strict=True) if not mine]
        assert any(free[0].enter(channel, another) for channel in slow)
    finally:
        for room, channel in rooms:
            room.give_back(channel)


def test_a_single_delivery_goes_out_while_another_tenants_all_hang(runtime: Runtime, tenant_id: str) -> None:
    # given a tenant with a thousand deliveries to a number that hangs, and one of another tenant behind them
    gate = Gate()
    house = with_providers(runtime, Scripted(Channel.SMS, gate.act))
    house = replace(house, bell=make_bell(runtime.settings.redis_url))
    actors.declare(house.bell, house)
    another = add_tenant(house, tenant_id)
    put(house, tenant_id, Channel.SMS, SLOW, 1000)
    put(house, another, Channel.SMS, QUICK, 1)
    # when a worker hears of it
    worker = InProcessWorker(house)
    worker.start()
    try:
        house.bell.ring(Job.DELIVER, Lane.NORMAL)
        # then the one goes out, though none of the thousand has
        wait_until(lambda: rows_of(house, another, Delivery, status="sent"), 25.0)
        assert not rows_of(house, tenant_id, Delivery, status="sent")
    finally:
        gate.opened.set()
        worker.stop()


def test_with_a_single_thread_a_slow_batch_makes_way_for_another_tenant(runtime: Runtime, tenant_id: str) -> None:
    # given one thread, in which a tenant's batch is being sent, slowly
    house = replace(runtime, settings=replace(runtime.settings, worker_lanes=(("normal", 1),)))
    another = add_tenant(house, tenant_id)
    put(house, another, Channel.SMS, QUICK, 1)
    turned_away = threading.Event()

    def act(_message: OutboundMessage) -> Accepted:
        if not turned_away.is_set():
            other_thread = threading.Thread(target=send.deliver, args=(house, Lane.NORMAL))
            other_thread.start()
            other_thread.join()
            turned_away.set()
        threading.Event().wait(0.05)
        return Accepted("id")

    provider = Scripted(Channel.SMS, act)
    house = with_providers(house, provider)
    turns._served[Lane.NORMAL] = (another, "sms")  # so that the first tenant is next
    ids = put(house, tenant_id, Channel.SMS, QUICK, 100)
    # when another thread asks for the other tenant meanwhile, and is turned away
    send.deliver(house, Lane.NORMAL)
    # then the batch ends early, and what was not begun is given back untried
    assert turned_away.is_set()
    assert 1 <= len(provider.began) < len(ids)
    given_back = rows_of(house, tenant_id, Delivery, status="pending")
    assert {row.tries for row in given_back} == {0}
    send.deliver(house, Lane.NORMAL)
    assert [row.status for row in rows_of(house, another, Delivery)] == ["sent"]


def test_tenants_have_their_turns_one_after_the_other(runtime: Runtime, tenant_id: str) -> None:
    # given more tenants than are looked up at a time, each with two batches
    house = with_providers(runtime, Scripted(Channel.SMS))
    tenants = [tenant_id, *(add_tenant(house, tenant_id) for _ in range(3 * turns._SLOTS))]
    for one in tenants:
        put(house, one, Channel.SMS, QUICK, claims.BATCH + 1)
    # when as many batches are sent as there are tenants
    for _ in tenants:
        send.deliver(house, Lane.NORMAL)
    # then each has had one
    sent = Counter({one: len(rows_of(house, one, Delivery, status="sent")) for one in tenants})
    assert set(sent.values()) == {claims.BATCH}


def test_a_process_that_has_just_started_begins_anywhere(runtime: Runtime, tenant_id: str) -> None:
    tenants = [tenant_id, *(add_tenant(runtime, tenant_id) for _ in range(20))]
    for one in tenants:
        put(runtime, one, Channel.IN_APP, "ada", 1)
    first = set()
    for _ in range(30):
        turns._served.clear()
        with runtime.db.transaction(system(Purpose.CLAIM)) as session, Room(runtime, Lane.NORMAL) as room:
            turn = turns.take(session, runtime, Lane.NORMAL, room)
            assert turn
            first.add(turn.tenant_id)
    assert len(first) > 1


def test_what_is_due_is_found_behind_any_number_of_tenants_that_wait(runtime: Runtime, tenant_id: str) -> None:
    # given tenants whose deliveries are not due yet, and one in their midst whose is
    tenants = sorted([tenant_id, *(add_tenant(runtime, tenant_id) for _ in range(3 * turns._SLOTS))])
    ready = tenants[len(tenants) // 2]
    for one in tenants:
        put(runtime, one, Channel.IN_APP, "ada", 1)
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        later = runtime.clock.now() + timedelta(days=10_000)
        for row in session.execute(select(Delivery)).scalars():
            row.next_attempt_at = row.next_attempt_at if row.tenant_id == ready else later
    with runtime.db.transaction(system(Purpose.CLAIM)) as session:
        assert claims.slots(session, Lane.NORMAL, runtime.clock.now(), limit=5) == [(ready, "in_app")]
    for begin in (tenants[0], ready, tenants[-1]):
        turns._served[Lane.NORMAL] = (begin, "sms")
        with runtime.db.transaction(system(Purpose.CLAIM)) as session, Room(runtime, Lane.NORMAL) as room:
            turn = turns.take(session, runtime, Lane.NORMAL, room)
            assert turn
            assert turn.tenant_id == ready


@pytest.mark.parametrize("shape", ["production"])
def test_a_claim_reads_no_more_rows_than_it_takes_however_many_wait(
    runtime: Runtime, tenant_id: str, postgres: PostgresServer
) -> None:
    # given many that are finished and many that wait, of which the database has gathered statistics
    put(runtime, tenant_id, Channel.SMS, QUICK, 6_000)
    with psycopg.connect(postgres.url_for("postgres", runtime.db.url.database or ""), autocommit=True) as owner:
        owner.execute("UPDATE notification_logs SET status = 'sent', next_attempt_at = NULL")
        put(runtime, tenant_id, Channel.EMAIL, "ada@example.com", 3_000)
        owner.execute("VACUUM ANALYZE notification_logs")
    # when a hundred of them are chosen
    with runtime.db.work(system(Purpose.CLAIM)) as session:
        before = rows_read(session, "notification_logs")
        chosen = claims.due(session, Lane.NORMAL, (tenant_id, "email"), runtime.clock.now(), 100)
        read = rows_read(session, "notification_logs") - before
    # then the others were left alone
    assert len(chosen) == 100
    assert 100 <= read <= 200


@pytest.mark.parametrize("shape", ["production"])
@pytest.mark.parametrize("suspects_first", [False, True])
def test_a_claim_of_events_reads_no_more_rows_than_it_takes_however_many_wait(
    runtime: Runtime, tenant_id: str, postgres: PostgresServer, suspects_first: bool
) -> None:
    # given many events that wait, of which the database has gathered statistics
    accept(runtime, tenant_id, *[EventInput("news")] * 3_000)
    with psycopg.connect(postgres.url_for("postgres", runtime.db.url.database or ""), autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE event_logs")
    # when some are claimed, and also when what went wrong has its turn
    with runtime.db.work(tenant(tenant_id)) as session:
        before = rows_read(session, "event_logs")
        claimed = event_claims.claim(
            session, Lane.NORMAL, tenant_id, runtime.clock.now(), suspects_first=suspects_first
        )
        read = rows_read(session, "event_logs") - before
    # then the others were left alone
    assert len(claimed) == event_claims.BATCH
    assert read <= 4 * event_claims.BATCH


@pytest.mark.parametrize("shape", ["production"])
def test_a_claim_leaves_the_operators_settings_of_the_database_as_they_are(
    runtime: Runtime, tenant_id: str, postgres: PostgresServer
) -> None:
    # given a database that the operator has told never to compile plans
    name = runtime.db.url.database or ""
    with psycopg.connect(postgres.url_for("postgres", name), autocommit=True) as owner:
        owner.execute(f'ALTER DATABASE "{name}" SET jit = off')  # type: ignore[arg-type]
    runtime.db.engine.dispose()
    # when
    with runtime.db.work(system(Purpose.CLAIM)) as session:
        claims.due(session, Lane.NORMAL, (tenant_id, "email"), runtime.clock.now(), 100)
        # then
        now = [session.execute(text(f"SHOW {setting}")).scalar() for setting in ("jit", "enable_sort")]
    assert now == ["off", "on"]
