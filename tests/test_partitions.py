"""Months on PostgreSQL: made ahead, dropped whole, never with something unfinished."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from app import partitions, schema
from app.core.runtime import Runtime
from app.ids import first_id_of
from app.models import Attempt, Delivery, Event, WebhookAttempt
from app.partitions import PARTITIONED, AnotherRunError, Step
from app.tenancy import Purpose, system
from providers.contract import Channel
from tests.core.helpers import drain, post_direct, rows_of
from tests.history import write_day
from tests.servers.postgres import OWNER, PostgresServer

TODAY = datetime.now(UTC)


def month(ahead: int, day: int) -> datetime:
    """A day of the month that comes so many months after this one."""
    months = TODAY.year * 12 + TODAY.month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, day, tzinfo=UTC)


# What is posted in the tests is older than all of this, whenever they run.
THREE_MONTHS = tuple(month(ahead, 5) for ahead in (1, 2, 3))
NOW = month(4, 10)
FIRST, SECOND, THIRD = (f"{at:%Y%m}" for at in THREE_MONTHS)
DAYS = dict.fromkeys(PARTITIONED, 30)


@pytest.fixture
def shape() -> str:
    return "production"


@pytest.fixture
def owner_url(runtime: Runtime, postgres: PostgresServer) -> str:
    return postgres.url_for(OWNER, runtime.db.url.database or "")


def maintain(runtime: Runtime, owner_url: str, now: datetime = NOW, **options: Any) -> list[Step]:
    app_url = runtime.db.url.render_as_string(hide_password=False)
    return list(schema.maintain(owner_url, app_url, DAYS, now=now, **options))


def months(runtime: Runtime, table: str) -> set[str]:
    """The partitions of a table, as `YYYYMM` or `default`."""
    with runtime.db.engine.connect() as connection:
        query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:table)")
        return {str(name).removeprefix(f"{table}_") for name in connection.execute(query, {"table": table}).scalars()}


def ids(runtime: Runtime, tenant_id: str, model: Any) -> list[str]:
    return [row.id for row in rows_of(runtime, tenant_id, model)]


@pytest.fixture
def history(runtime: Runtime, tenant_id: str, owner_url: str) -> list[str]:
    """Three months of data, each in its partition."""
    for month in THREE_MONTHS:
        schema.upgrade(owner_url, runtime.db.url.render_as_string(hide_password=False), now=month)
    return [write_day(runtime, tenant_id, month) for month in THREE_MONTHS]


def test_an_old_month_goes_whole_and_the_coming_ones_are_made(
    runtime: Runtime, tenant_id: str, owner_url: str, history: list[str]
) -> None:
    # when it is the tenth of the fourth month, and 30 days are kept
    steps = maintain(runtime, owner_url)
    # then the first two are gone, the third is not over for long enough, and the sixth is there
    for table in PARTITIONED:
        assert months(runtime, table) >= {THIRD, *(f"{month(ahead, 1):%Y%m}" for ahead in (4, 5, 6)), "default"}
        assert not months(runtime, table) & {FIRST, SECOND}
    assert not [step for step in steps if step.kept]
    for model in (Event, Delivery, Attempt, WebhookAttempt):
        assert ids(runtime, tenant_id, model) == [history[2]]
    # and a second run has nothing to do
    assert maintain(runtime, owner_url) == []


@pytest.mark.parametrize(
    ("unfinished", "kept"),
    [
        ({"delivery_status": "pending"}, {"notification_logs", "event_logs"}),
        (
            {"delivery_status": "sending", "outcome": None},
            {"notification_logs", "event_logs", "delivery_attempts", "webhook_delivery_logs"},
        ),
        ({"event_status": "received"}, {"event_logs"}),
        ({"event_status": "planning"}, {"event_logs"}),
    ],
)
def test_a_month_with_something_unfinished_is_kept(
    runtime: Runtime, tenant_id: str, owner_url: str, history: list[str], unfinished: dict[str, Any], kept: set[str]
) -> None:
    # given one unfinished thing in the first month
    left = write_day(runtime, tenant_id, THREE_MONTHS[0], **unfinished)
    # when the months are maintained
    steps = maintain(runtime, owner_url)
    # then that month of what it needs is kept, and said so; the others are gone
    assert {step.partition.name for step in steps if step.kept} == {f"{table}_{FIRST}" for table in kept}
    assert {table for table in PARTITIONED if FIRST in months(runtime, table)} == kept
    assert not any(SECOND in months(runtime, table) for table in PARTITIONED)
    assert left in ids(runtime, tenant_id, Event)
    # and when it is finished, they go
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE notification_logs SET status = 'failed' WHERE id < :mark"), {"mark": history[1]})
        session.execute(text("UPDATE event_logs SET status = 'planned' WHERE id < :mark"), {"mark": history[1]})
    maintain(runtime, owner_url)
    assert not any(FIRST in months(runtime, table) for table in PARTITIONED)


def test_what_is_kept_for_ever_is_never_dropped(runtime: Runtime, owner_url: str, history: list[str]) -> None:
    steps = list(schema.maintain(owner_url, "", {"event_logs": 30, "notification_logs": 0}, now=NOW))

    dropped = {step.partition.table for step in steps if step.what == "drop"}
    assert dropped == {"event_logs"}


def test_a_dry_run_says_the_same_and_does_nothing(runtime: Runtime, owner_url: str, history: list[str]) -> None:
    before = {table: months(runtime, table) for table in PARTITIONED}
    said = maintain(runtime, owner_url, dry_run=True)
    assert {table: months(runtime, table) for table in PARTITIONED} == before
    assert said == maintain(runtime, owner_url)


def test_rows_of_months_that_nobody_made_move_out_of_the_default_partition(
    runtime: Runtime, tenant_id: str, owner_url: str
) -> None:
    # given nobody called for half a year, and rows of two months, this one too, stand in the default partition
    start = datetime.now(UTC)
    late = [start + timedelta(days=days) for days in (150, 190)]
    made = [write_day(runtime, tenant_id, at) for at in late]
    stray = write_day(runtime, tenant_id, start + timedelta(days=9000))  # somebody's clock
    # when the months are maintained
    steps = maintain(runtime, owner_url, now=late[1])
    # then there is a partition that holds them, secured, with a new default behind it
    filled = [step.partition for step in steps if step.what == "fill"]
    assert {one.table for one in filled} == set(PARTITIONED)
    for one in filled:
        assert one.start <= made[0] < made[1] < one.end
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            found = session.execute(
                text(f"SELECT id::text, tableoid::regclass::text FROM {one.table} ORDER BY id")
            ).all()
            assert [tuple(row) for row in found] == [
                (made[0], one.name),
                (made[1], one.name),
                (stray, f"{one.table}_default"),
            ]
            secured = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = :name"
            for name in (one.name, f"{one.table}_default"):
                assert session.execute(text(secured), {"name": name}).scalar() is True
    # and rows that come now find their place
    later = write_day(runtime, tenant_id, late[1] + timedelta(days=40))
    assert ids(runtime, tenant_id, Delivery) == [*made, later, stray]
    assert maintain(runtime, owner_url, now=late[1]) == []


def test_the_new_default_takes_what_no_month_takes(runtime: Runtime, tenant_id: str, owner_url: str) -> None:
    start = datetime.now(UTC) + timedelta(days=150)
    write_day(runtime, tenant_id, start)
    maintain(runtime, owner_url, now=start)
    far = write_day(runtime, tenant_id, start + timedelta(days=400))
    assert far in ids(runtime, tenant_id, Event)


def test_what_is_in_use_is_left_for_the_next_run_and_nobody_waits_long(
    runtime: Runtime, tenant_id: str, owner_url: str, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a reader who holds a table for long, as a backup does
    monkeypatch.setattr(partitions, "TRIES", 1)
    with psycopg.connect(runtime.db.url.render_as_string(hide_password=False)) as reader:
        reader.execute("SELECT count(*) FROM notification_logs")
        # when the months are maintained
        steps = maintain(runtime, owner_url)
        # then that table is left alone, and all others are done
        assert {step.partition.table for step in steps if step.left} == {"notification_logs"}
        assert FIRST in months(runtime, "notification_logs")
        assert FIRST not in months(runtime, "delivery_attempts")
    # and the next run does the rest
    assert not [step for step in maintain(runtime, owner_url) if step.kept]
    assert FIRST not in months(runtime, "notification_logs")


def test_the_service_goes_on_with_the_connections_it_has(
    runtime: Runtime, tenant_id: str, owner_url: str, history: list[str]
) -> None:
    # given connections with prepared statements
    for _ in range(8):
        post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="before")
        drain(runtime)
    # when months are dropped and made
    assert {step.what for step in maintain(runtime, owner_url)} == {"make", "drop"}
    # then the same statements find what is there now
    post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="after")
    drain(runtime)
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery)] == ["delivered"] * 2  # this one, and the third


def test_two_runs_at_once_do_not_meet(runtime: Runtime, owner_url: str, history: list[str]) -> None:
    first = schema.maintain(owner_url, "", DAYS, now=NOW)
    next(first)
    with pytest.raises(AnotherRunError, match="nothing was done"):
        maintain(runtime, owner_url)
    # but who only asks is answered
    assert maintain(runtime, owner_url, dry_run=True)
    assert list(first)


def test_the_command_says_that_another_run_keeps_it_from_its_work(
    runtime: Runtime,
    owner_url: str,
    history: list[str],
    maintain_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    first = schema.maintain(owner_url, "", DAYS, now=NOW)
    next(first)
    done = maintain_command()
    assert (done.returncode, "under way" in done.stderr, done.stdout) == (1, True, ""), done.stderr
    assert "steps to do." in maintain_command("--dry-run").stdout
    assert list(first)


def test_a_table_that_was_detached_is_left_alone(runtime: Runtime, owner_url: str, history: list[str]) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER TABLE event_logs DETACH PARTITION event_logs_{FIRST}")
        maintain(runtime, owner_url)
        assert owner.execute(f"SELECT to_regclass('event_logs_{FIRST}')").fetchone() != (None,)


def test_looking_for_the_unfinished_reads_no_month(
    runtime: Runtime, tenant_id: str, owner_url: str, history: list[str]
) -> None:
    """It happens under a lock: the partial indexes must answer, however many rows there are."""
    values = {"start": first_id_of(month(1, 1)), "end": first_id_of(month(2, 1))}
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        for queries in partitions._UNFINISHED.values():
            for query in queries:
                plan = "\n".join(session.execute(text(f"EXPLAIN {query} LIMIT 1"), values).scalars())
                assert "Seq Scan" not in plan, plan
                if " d." not in query:
                    assert "_lease_until_idx" in plan or "_lane_tenant_id_" in plan, plan


@pytest.fixture
def maintain_command(runtime: Runtime, owner_url: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`tidings migrate --maintain`, with more options."""
    urls = {"DATABASE_URL": runtime.settings.database_url, "MIGRATION_DATABASE_URL": owner_url}
    environ = os.environ | urls | {"REDIS_URL": runtime.settings.redis_url, "SECRET_KEY": runtime.settings.secret_key}

    def called(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app.entrypoints.cli", "migrate", "--maintain", *options]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    return called


def test_the_command_says_what_it_does(
    history: list[str], maintain_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert "steps to do." in maintain_command("--dry-run").stdout
    done = maintain_command()
    assert (done.returncode, "steps done." in done.stdout) == (0, True), done.stderr


def test_the_embedded_shape_has_nothing_to_maintain(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "var")}
    command = [sys.executable, "-m", "app.entrypoints.cli", "migrate", "--maintain"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, "no partitions" in done.stdout) == (0, True), done.stderr
