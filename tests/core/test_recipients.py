"""The people who are told."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from app.clock import Clock
from app.core import recipients
from app.core.recipients import Person
from app.core.runtime import Runtime
from app.errors import InvalidError, NotFoundError
from app.tenancy import tenant
from tests.core.helpers import rows_read
from tests.servers.postgres import PostgresServer

ADA = {
    "user_id": "ada",
    "name": "Ada",
    "email": "ada@example.com",
    "phone": "+4915112345678",
    "locale": "de_AT",
    "time_zone": "Europe/Vienna",
    "attributes": {"plan": "gold", "n": 1.0},
}


def test_saving_with_an_event_keeps_what_is_absent_and_clears_what_is_null(db: Any, tenant_id: str) -> None:
    # given a whole person
    with db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, Clock(), tenant_id, [ADA])
    # when an event names only some fields
    with db.transaction(tenant(tenant_id)) as session:
        later = {"user_id": "ada", "email": "countess@example.com", "phone": None, "attributes": {"plan": "iron"}}
        recipients.upsert(session, Clock(), tenant_id, [later, {"user_id": "bob"}])
        found = recipients.load(session, tenant_id, ["ada", "bob", "nobody"])
    # then the others are as they were
    assert found == {
        "ada": Person("ada", "Ada", "countess@example.com", None, "de-AT", "Europe/Vienna", {"plan": "iron"}),
        "bob": Person("bob", attributes={}),
    }


def test_a_person_who_is_named_twice_is_merged(db: Any, tenant_id: str) -> None:
    people = [{"user_id": "ada", "name": "A", "locale": "de"}, {"user_id": "ada", "name": "Ada"}]
    with db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, Clock(), tenant_id, people)
        assert recipients.load(session, tenant_id, ["ada"])["ada"] == Person("ada", "Ada", locale="de", attributes={})


def test_saving_whole_clears_what_is_left_out(db: Any, tenant_id: str) -> None:
    fields = {name: value for name, value in ADA.items() if name != "user_id"}
    with db.transaction(tenant(tenant_id)) as session:
        first = recipients.put(session, Clock(), tenant_id, "ada", fields)
        assert (first.email, first.attributes) == ("ada@example.com", {"plan": "gold", "n": 1.0})
        second = recipients.put(session, Clock(), tenant_id, "ada", {"name": "Ada L."})
        assert (second.name, second.email, second.phone, second.attributes) == ("Ada L.", None, None, {})


def test_saying_the_same_again_writes_nothing(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, Clock(), tenant_id, [ADA])
        first = recipients.get(session, tenant_id, "ada").updated_at
    with db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, Clock(), tenant_id, [ADA])
        assert recipients.get(session, tenant_id, "ada").updated_at == first


def test_a_removed_person_is_gone_and_removing_again_is_not_found(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, Clock(), tenant_id, [ADA])
        recipients.remove(session, tenant_id, "ada")
    with pytest.raises(NotFoundError), db.transaction(tenant(tenant_id)) as session:
        recipients.remove(session, tenant_id, "ada")


@pytest.mark.parametrize("shape", ["embedded"])
def test_known_people_are_looked_up_one_by_one_however_many_a_tenant_has(db: Any, tenant_id: str) -> None:
    # given statements that are noted as they are run
    known = [{"user_id": f"u{number}", "name": "A"} for number in range(3)]
    noted: list[tuple[str, Any]] = []
    with db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, Clock(), tenant_id, known)
        event.listen(session.connection(), "before_cursor_execute", lambda *told: noted.append((told[2], told[3])))
        # when known people come with something new
        recipients.upsert(session, Clock(), tenant_id, [person | {"name": "B"} for person in known])
        (update,) = [told for told in noted if told[0].startswith("UPDATE")]
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {update[0]}", update[1]).all()
    # then the database finds each by his name, and goes through nobody else
    steps = [str(row[3]) for row in plan]
    assert not [step for step in steps if step.startswith("SCAN recipients") or step.endswith("(tenant_id=?)")]
    assert [step for step in steps if "user_id=?" in step]


def test_many_writers_of_the_same_people_do_not_lock_up(db: Any, tenant_id: str) -> None:
    # given eight threads that save the same people in different orders
    people = [{"user_id": f"u{number}"} for number in range(50)]
    faults: list[Exception] = []

    def save(turn: int) -> None:
        mine = [{**person, "name": f"{turn}"} for person in (people if turn % 2 else reversed(people))]
        try:
            with db.transaction(tenant(tenant_id)) as session:
                recipients.upsert(session, Clock(), tenant_id, mine)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=save, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then all of them come through, and everybody is there once
    assert faults == []
    with db.transaction(tenant(tenant_id)) as session:
        names = {p.name for p in recipients.load(session, tenant_id, [f"u{number}" for number in range(50)]).values()}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("email", "no address", "email"),
        ("email", "a@b.example\r\nBcc: x@y.example", "email"),
        ("email", "a" * 400 + "@example.com", "email"),
        ("phone", "12345", "phone"),
        ("phone", "+0123456789", "phone"),
        ("locale", "xx-YY-zz", "locale"),
        ("locale", "../../etc", "locale"),
        ("time_zone", "Mars/Olympus", "timeZone"),
        ("time_zone", "../../../../etc/passwd", "timeZone"),
        ("time_zone", "/etc/localtime", "timeZone"),
        ("attributes", [], "attributes"),
        ("attributes", {"x": "y" * 17_000}, "attributes"),
        ("user_id", "", "userId"),
        ("user_id", None, "userId"),
        ("user_id", "a\nb", "userId"),
        ("user_id", "a" * 256, "userId"),
        ("name", "a\r\nb", "name"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, path: str) -> None:
    with pytest.raises(InvalidError) as refused:
        recipients.checked({"user_id": "ada", field: value}, "recipients.3.")
    assert set(refused.value.fields) == {f"recipients.3.{path}"}


@pytest.mark.parametrize("address", ["x@example.test", "root@localhost", "ümlaut@exämple.com", "a+b@example.com"])
def test_addresses_that_mail_servers_take_are_taken(address: str) -> None:
    assert "@" in recipients.email(address)


def test_a_phone_number_is_brought_into_one_form() -> None:
    assert recipients.checked({"phone": "+49 (151) 1234-5678"}) == {"phone": "+4915112345678"}


@pytest.mark.parametrize("name", ["user_id", "name", "email", "phone", "locale", "time_zone"])
@pytest.mark.parametrize("value", [{}, [], {"a": 1}, 7, True])
def test_what_is_not_text_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        recipients.checked({name: value})
    assert list(caught.value.fields.values()) == ["is not text"]


MANY_PEOPLE = """
INSERT INTO recipients (id, tenant_id, user_id, name, attributes, created_at, updated_at)
SELECT gen_random_uuid(), %(tenant)s, 'u' || number, 'N', '{}', now(), now() FROM generate_series(0, 100000) AS number
"""


@pytest.mark.parametrize("shape", ["production"])
@pytest.mark.parametrize("count", [1, 20])
def test_saving_a_few_reads_no_more_people_than_these(
    runtime: Runtime, tenant_id: str, postgres: PostgresServer, count: int
) -> None:
    # given many people, of whom the database has gathered statistics
    with psycopg.connect(postgres.url_for("postgres", runtime.db.url.database or ""), autocommit=True) as owner:
        owner.execute(MANY_PEOPLE, {"tenant": tenant_id})
        owner.execute("VACUUM ANALYZE recipients")
    # when a few of them come with an event
    few = [{"user_id": f"u{number * 7}", "name": "O"} for number in range(count)]
    with runtime.db.work(tenant(tenant_id)) as session:
        before = rows_read(session, "recipients")
        recipients.upsert(session, runtime.clock, tenant_id, few)
        read = rows_read(session, "recipients") - before
    # then the others were left alone
    assert count <= read <= 10 * count
