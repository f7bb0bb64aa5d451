"""PostgreSQL by libpq's own calls lives through what servers, owners and networks do to its connections."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg import pq
from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from app import wire
from app.core import inbox, topics
from app.core.runtime import Runtime
from app.db import Database
from app.models import InAppNotification, Topic
from app.tenancy import Purpose, system, tenant
from tests.core.helpers import rows_of
from tests.servers.postgres import PostgresServer
from tests.servers.relay import Relay
from tests.test_work import item

ECHO = text("SELECT CAST(:x AS text)")
BREAKERS = text("SELECT name, reason FROM breakers")


@pytest.fixture
def shape() -> str:
    return "production"


def echo(db: Database, value: str = "x") -> str:
    with db.work(system(Purpose.SWEEP)) as work:
        return str(work.execute(ECHO, {"x": value}).scalar())


def on_all_connections(db: Database, count: int, statement: str) -> None:
    """Run something outside our transactions on `count` of the pool's connections."""
    with ExitStack() as stack:
        for connection in [stack.enter_context(db.engine.connect()) for _ in range(count)]:
            driver: Any = connection.connection.driver_connection
            assert driver.pgconn.exec_(statement.encode()).status == pq.ExecStatus.COMMAND_OK


def warmed(db: Database, count: int) -> None:
    """Have `count` connections in the pool that know our statements."""
    with ExitStack() as stack:
        for work in [stack.enter_context(db.work(system(Purpose.SWEEP))) for _ in range(count)]:
            work.execute(ECHO, {"x": "a"})
            work.execute(BREAKERS)


def change_type(postgres: PostgresServer, db: Database) -> None:
    """As a migration does it, beside the running service."""
    url = postgres.url_for("tidings_owner", str(db.url.database))
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("ALTER TABLE breakers ALTER COLUMN reason TYPE varchar(999)")


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_transaction_that_begins_without_its_prepared_statements_prepares_them_again(
    runtime: Runtime, command: str
) -> None:
    warmed(runtime.db, 3)
    on_all_connections(runtime.db, 3, command)
    assert [echo(runtime.db) for _ in range(6)] == ["x"] * 6


def test_a_name_that_somebody_else_has_taken_is_taken_back(runtime: Runtime) -> None:
    name = wire._name("SELECT CAST($1 AS text)").decode()
    on_all_connections(runtime.db, 1, f"PREPARE {name} AS SELECT 'not ours' WHERE CAST($1 AS text) IS NOT NULL")
    assert echo(runtime.db) == "x"


def test_a_table_that_has_changed_fails_no_transaction_that_begins_with_it(
    runtime: Runtime, postgres: PostgresServer
) -> None:
    warmed(runtime.db, 3)
    change_type(postgres, runtime.db)
    for _ in range(6):
        with runtime.db.work(system(Purpose.SWEEP)) as work:
            assert work.execute(BREAKERS) == []


def test_a_table_that_changed_fails_one_transaction_in_its_midst_and_no_other(
    runtime: Runtime, postgres: PostgresServer
) -> None:
    # given connections that all know the statement
    warmed(runtime.db, 3)
    change_type(postgres, runtime.db)
    # when it comes second in a transaction
    faults: list[DBAPIError] = []
    for _ in range(6):
        try:
            with runtime.db.work(system(Purpose.SWEEP)) as work:
                work.execute(ECHO, {"x": "a"})
                work.execute(BREAKERS)
        except DBAPIError as error:
            faults.append(error)
    # then what was done before it is undone, and said to be worth another try
    (fault,) = faults
    assert isinstance(fault, OperationalError)
    assert fault.connection_invalidated


def test_a_connection_prepares_so_many_statements_and_no_more(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_MOST_PREPARED", 8)
    with runtime.db.work(system(Purpose.SWEEP)) as work:
        for number in range(20):
            query = text(f"SELECT CAST(:x AS integer) + {number}")
            assert work.execute(query, {"x": 1}).scalar() == number + 1
        assert work.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 8


def test_names_of_topics_make_one_statement_however_many_they_are(runtime: Runtime, tenant_id: str) -> None:
    count = text("SELECT count(*) FROM pg_prepared_statements")
    with runtime.db.work(tenant(tenant_id)) as work:
        topics.unknown(work, tenant_id, ["a"])
        before = work.execute(count).scalar()
        for number in range(2, 30):
            names = {f"name-{one}" for one in range(number)}
            assert topics.unknown(work, tenant_id, names) == names
        assert work.execute(count).scalar() == before


def test_a_statement_for_each_length_of_a_list_is_refused(runtime: Runtime, tenant_id: str) -> None:
    query = select(Topic.name).where(Topic.tenant_id == bindparam("tenant"), Topic.name.in_(["a", "b"]))
    with pytest.raises(TypeError, match="array"), runtime.db.work(tenant(tenant_id)) as work:
        work.execute(query, {"tenant": tenant_id})


@pytest.mark.parametrize("value", ["a\0b", "half \ud83d of it", ["fine", "a\0b"]])
def test_what_postgresql_cannot_hold_is_refused_and_not_cut_off(runtime: Runtime, value: object) -> None:
    with pytest.raises(DataError), runtime.db.work(system(Purpose.SWEEP)) as work:
        work.execute(ECHO, {"x": value})
    assert echo(runtime.db) == "x"


def test_a_process_with_thousands_of_open_files_sends_and_reads_large_values(runtime: Runtime) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        runtime.db.engine.dispose()  # so that the next connection has a number above 1,024
        assert len(echo(runtime.db, "a" * 20_000_000)) == 20_000_000
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def relay(runtime: Runtime) -> Iterator[Relay]:
    made = Relay(runtime.db.url.port or 5432)
    yield made
    made.close()


def test_a_server_that_has_gone_without_a_word_holds_no_thread_for_ever(runtime: Runtime, relay: Relay) -> None:
    # given a connection through a network that takes nothing more from some moment on
    url = runtime.db.url.set(port=relay.port).update_query_dict({"tcp_user_timeout": "300"})
    database = Database(url.render_as_string(hide_password=False))
    assert echo(database) == "x"
    relay.deaf.set()
    # when more is sent than the network's buffers hold, then it ends by itself
    with pytest.raises(OperationalError) as fault:
        echo(database, "a" * 30_000_000)
    assert fault.value.connection_invalidated
    # and the next connection is a new one
    relay.deaf.clear()
    assert echo(database) == "x"
    database.close()


def test_a_commit_whose_answer_is_lost_is_a_fault_and_may_have_been_carried_out(
    runtime: Runtime, tenant_id: str, relay: Relay
) -> None:
    database = Database(runtime.db.url.set(port=relay.port).render_as_string(hide_password=False))
    relay.breaks_commits.set()
    with pytest.raises(OperationalError) as fault, database.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime)])
    assert fault.value.connection_invalidated
    assert len(rows_of(runtime, tenant_id, InAppNotification)) == 1
    database.close()


def test_both_roads_are_told_when_to_give_a_silent_server_up(runtime: Runtime) -> None:
    with runtime.db.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        given = driver.info.get_parameters()
    wanted = {"tcp_user_timeout": "15000", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}
    assert {name: given.get(name) for name in wanted} == wanted
