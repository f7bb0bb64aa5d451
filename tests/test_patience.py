"""A PostgreSQL that says nothing is given up, one that takes long is stopped, and neither costs more than its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import db
from app.core.runtime import Runtime
from app.db import Database
from app.patience import Asking, SilentError
from app.tenancy import Purpose, system
from tests.conftest import wait_until
from tests.servers.relay import Relay

WHO = text("SELECT pg_backend_pid()")
Road = Callable[[Database], AbstractContextManager[Any]]


@pytest.fixture
def shape() -> str:
    return "production"


@pytest.fixture(params=["work", "transaction"])
def road(request: pytest.FixtureRequest) -> Road:
    return lambda database: getattr(database, request.param)(system(Purpose.SWEEP))


@pytest.fixture
def relay(runtime: Runtime) -> Iterator[Relay]:
    made = Relay(runtime.db.url.port or 5432)
    yield made
    made.close()


@pytest.fixture
def database(runtime: Runtime, relay: Relay) -> Iterator[Database]:
    """Waits four seconds, through a network that can go deaf."""
    url = runtime.db.url.set(port=relay.port).render_as_string(hide_password=False)
    made = Database(url, silent_seconds=4)
    yield made
    made.close()


def test_a_server_that_says_nothing_is_given_up(database: Database, relay: Relay, road: Road) -> None:
    # given a server that hangs in the midst of a transaction
    with pytest.raises(OperationalError) as fault, road(database) as session:
        session.execute(WHO)
        relay.deaf.set()
        session.execute(WHO)
    # then whoever asked is told
    assert isinstance(fault.value.orig, SilentError)
    assert fault.value.connection_invalidated
    # and when it is well again there is a new connection
    relay.deaf.clear()
    with road(database) as session:
        assert session.execute(WHO).scalar()


def test_a_transaction_ends_though_the_server_says_nothing(database: Database, relay: Relay, road: Road) -> None:
    # given something that goes wrong of itself while the server hangs: the one or the other is told
    with pytest.raises((ZeroDivisionError, OperationalError)), road(database) as session:
        session.execute(WHO)
        relay.deaf.set()
        raise ZeroDivisionError
    # when it is well again, then so is the service
    relay.deaf.clear()
    with road(database) as session:
        assert session.execute(WHO).scalar()


def test_a_statement_that_takes_long_is_ended_by_the_server_with_its_locks(
    runtime: Runtime, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given that the server ends it long before it is given up, which on a busy machine "shortly before" may not be
    assert 0.5 < db._SERVERS_SHARE < 1
    monkeypatch.setattr(db, "_SERVERS_SHARE", 0.1)
    database = Database(runtime.db.url.render_as_string(hide_password=False), silent_seconds=40)
    with road(database) as session:
        before = session.execute(WHO).scalar()
    # when one takes longer than anybody waits
    with pytest.raises(OperationalError) as fault, road(database) as session:
        session.execute(text("SELECT pg_advisory_xact_lock(77), pg_sleep(60)"))
    # then it is over there as well, and the connection is as good as before
    assert isinstance(fault.value.orig, psycopg.errors.QueryCanceled)
    with road(database) as session:
        assert session.execute(WHO).scalar() == before
        assert session.execute(text("SELECT count(*) FROM pg_locks WHERE objid = 77")).scalar() == 0
    database.close()


def test_workers_wait_as_long_as_the_operator_lets_them(runtime: Runtime, road: Road) -> None:
    with road(runtime.db) as session:
        assert session.execute(text("SHOW statement_timeout")).scalar() == "0"


def test_a_question_without_an_answer_is_asked_once_and_keeps_nobody() -> None:
    end, asked = threading.Event(), []

    def ask() -> int:
        asked.append(threading.current_thread())
        end.wait()
        return len(asked)

    asking = Asking(ask)
    assert asking.lasts == 0
    # when it lasts, then nobody waits for longer than they said, and it is asked once for all
    for _ in range(2):
        with pytest.raises(TimeoutError):
            asking.answer(0.01)
    wait_until(lambda: asked)
    assert (len(asked), asking.lasts > 0) == (1, True)
    # and with the answer there it is asked anew
    end.set()
    wait_until(lambda: asking.lasts == 0)
    assert asking.answer(60) == 2


def test_a_question_for_which_there_is_no_thread_is_asked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    asking = Asking(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            asking.answer(60)
