"""The transaction without the ORM keeps the laws of the one with it."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from app import rows
from app.core import inbox
from app.core.outbox import Job, Lane, ring_after_commit
from app.core.runtime import Runtime
from app.db import Database, narrow
from app.ids import new_id
from app.models import InAppNotification, Tenant
from app.tenancy import Purpose, UnscopedStatementError, person, system, tenant
from app.work import Rows
from tests.servers.process import free_port

_MINE = select(InAppNotification.id, InAppNotification.user_id, InAppNotification.created_at).where(
    InAppNotification.tenant_id == bindparam("tenant")
)

_GONE = text("DELETE FROM notifications WHERE tenant_id = :tenant")


def item(runtime: Runtime, user_id: str = "ada", **more: object) -> dict[str, object]:
    about = {"event_id": None, "event_type": None, "type": "info", "message": "", "action_url": None}
    return {"id": new_id(), "user_id": user_id, "title": "x", "created_at": runtime.clock.now(), **about, **more}


def seen(runtime: Runtime, tenant_id: str) -> Rows:
    with runtime.db.work(tenant(tenant_id), read_only=True) as work:
        return work.execute(_MINE, {"tenant": tenant_id})


def test_what_it_writes_is_there_after_the_block_as_it_was_written(runtime: Runtime, tenant_id: str) -> None:
    written = item(runtime, title="Grüße, \\'\"{}", message="a\nb")
    with runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [written])
    (row,) = seen(runtime, tenant_id)
    assert (row.id, row.user_id, row.created_at) == (written["id"], "ada", written["created_at"])
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        query = select(InAppNotification).where(InAppNotification.tenant_id == tenant_id)
        assert session.scalars(query).one().title == written["title"]


def test_a_block_that_raises_leaves_nothing(runtime: Runtime, tenant_id: str) -> None:
    with pytest.raises(ZeroDivisionError), runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime)])
        raise ZeroDivisionError
    assert not seen(runtime, tenant_id)


def test_a_refused_statement_is_sqlalchemys_error_and_the_connection_goes_on(runtime: Runtime, tenant_id: str) -> None:
    with pytest.raises(IntegrityError), runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime) | {"title": None}])
    with runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime)])
    assert len(seen(runtime, tenant_id)) == 1


def test_what_needs_no_answer_is_run_in_its_turn(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime)])
        assert len(work.execute(_MINE, {"tenant": tenant_id})) == 1
        work.defer(_GONE, {"tenant": tenant_id})
        assert not work.execute(_MINE, {"tenant": tenant_id})
        inbox.add(work, tenant_id, [item(runtime, "bob")])
    assert [row.user_id for row in seen(runtime, tenant_id)] == ["bob"]


def test_a_fault_that_was_passed_over_does_not_count_as_committed(runtime: Runtime, tenant_id: str) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then; SQLite undoes the one statement only."""
    if runtime.db.is_sqlite:
        return
    with pytest.raises(DBAPIError), runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime)])
        with pytest.raises(IntegrityError):
            rows.insert(work, InAppNotification, [{"tenant_id": tenant_id, **item(runtime), "title": None}])
    assert not seen(runtime, tenant_id)


def test_another_tenants_and_persons_rows_are_out_of_sight(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        other = Tenant(name="other", webhook_secret="", created_at=runtime.clock.now())
        session.add(other)
        session.flush()
        other_id = other.id
    with runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime), item(runtime, "it's bob")])
    assert not seen(runtime, other_id)
    if not runtime.db.is_sqlite:
        for scope in (tenant(other_id), person(tenant_id, "eve")):
            with runtime.db.work(scope) as work:
                assert not work.execute(_MINE, {"tenant": tenant_id})
        with runtime.db.work(person(tenant_id, "it's bob")) as work:
            assert [row.user_id for row in work.execute(_MINE, {"tenant": tenant_id})] == ["it's bob"]
        with pytest.raises(DBAPIError, match="row-level security"), runtime.db.work(tenant(other_id)) as work:
            inbox.add(work, tenant_id, [item(runtime)])


def test_a_scope_ends_with_its_transaction(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.work(tenant(tenant_id)) as work:
        inbox.add(work, tenant_id, [item(runtime)])
    if not runtime.db.is_sqlite:
        with runtime.db.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM notifications")).scalar() == 0


def test_a_system_scope_can_be_narrowed_to_one_tenant(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.work(system(Purpose.CLAIM)) as work:
        work.execute(text("SELECT count(*) FROM notifications"))
        narrow(work, tenant(tenant_id))
        if runtime.db.is_sqlite:
            with pytest.raises(UnscopedStatementError):
                work.execute(text("SELECT count(*) FROM notifications"))
        else:
            assert work.execute(text("SELECT current_setting('tidings.tenant')")).scalar() == tenant_id


def test_a_statement_that_names_no_tenant_is_refused_on_sqlite(runtime: Runtime, tenant_id: str) -> None:
    if runtime.db.is_sqlite:
        with pytest.raises(UnscopedStatementError), runtime.db.work(tenant(tenant_id)) as work:
            work.execute(text("DELETE FROM notifications WHERE id = :id"), {"id": new_id()})


def test_values_of_every_kind_come_back_as_they_are(runtime: Runtime, tenant_id: str) -> None:
    now = runtime.clock.now()
    with runtime.db.work(tenant(tenant_id)) as work:
        if rows.is_postgres(work):
            names = ("a", "b", "c", "d", "e", "f", "g", "h")
            query = text(
                "SELECT CAST(:a AS integer) a, CAST(:b AS double precision) b, CAST(:c AS text) c,"
                " CAST(:d AS boolean) d, CAST(:e AS timestamptz) e, CAST(:f AS jsonb) f,"
                " CAST(:g AS uuid) g, CAST(:h AS text[])::text h"
            )
            given = dict(
                zip(names, (7, 1.5, "ü\\'\"", False, now, '{"k": [1]}', tenant_id, ['a"b', "c\\d"]), strict=True)
            )
            (found,) = work.execute(query, given).mappings()
            assert found == given | {"f": {"k": [1]}, "h": '{"a\\"b","c\\\\d"}'}
        (row,) = work.execute(
            text(
                "SELECT :a AS a, :b AS b"
                if not rows.is_postgres(work)
                else "SELECT CAST(:a AS text) a, CAST(:b AS text) b"
            ),
            {"a": None, "b": "x"},
        )
        assert (row.a, row[1]) == (None, "x")


def test_its_rings_are_rung_after_the_commit_and_forgotten_after_a_fault(runtime: Runtime, tenant_id: str) -> None:
    rung: list[tuple[str, str]] = []

    class Ear:
        def ring_soon(self, job: str, lane: str) -> None:
            rung.append((job, lane))

    runtime.db.bell = Ear()
    with pytest.raises(ZeroDivisionError), runtime.db.work(tenant(tenant_id)) as work:
        ring_after_commit(work, Job.PLAN, Lane.NORMAL)
        raise ZeroDivisionError
    with runtime.db.work(tenant(tenant_id)) as work:
        ring_after_commit(work, Job.PLAN, Lane.NORMAL)
        assert rung == []
    assert rung == [("plan", "normal")]


def test_many_threads_use_the_pool_side_by_side(runtime: Runtime, tenant_id: str) -> None:
    def write() -> None:
        for _ in range(5):
            with runtime.db.work(tenant(tenant_id)) as work:
                inbox.add(work, tenant_id, [item(runtime)])

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen(runtime, tenant_id)) == 30


def test_a_connection_that_died_is_replaced(runtime: Runtime, tenant_id: str) -> None:
    if runtime.db.is_sqlite:
        return
    with pytest.raises(DBAPIError) as fault, runtime.db.work(tenant(tenant_id)) as work:
        work.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert fault.value.connection_invalidated
    assert seen(runtime, tenant_id) == []


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:{port}/none", "sqlite:////nowhere/at/all.db"])
def test_a_database_that_is_away_is_sqlalchemys_error(url: str) -> None:
    database = Database(url.format(port=free_port()))
    with pytest.raises(OperationalError), database.work(system(Purpose.SWEEP)):
        raise AssertionError("there is nothing to work on")
