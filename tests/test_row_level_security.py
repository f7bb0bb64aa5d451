"""Under the API: the application's role asks the database directly, with and without the settings.

Tables, columns and partitions are taken from PostgreSQL's own catalog and filled by their types, so that a new table
is held to the same law without a word here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import make_url

from app.core.runtime import Runtime
from app.ids import first_id_of, new_id
from app.models import Base
from app.tenancy import Purpose, UnscopedStatementError, person, system, tenant
from tests.servers.postgres import OWNER, PostgresServer

PERSONAL = {"recipients", "user_notification_preferences", "notifications", "notification_logs"}
"""Of these a person sees their own rows; of all others nothing."""
NOT_OURS = {"alembic_version"}
FAR = datetime(2090, 1, 1, tzinfo=UTC)  # no month is made for it: such a row stands in the default partition
MODELS = sorted(  # the registry has no order, and the suite's processes must find the same tests
    (mapper.class_ for mapper in Base.registry.mappers if "tenant_id" in mapper.local_table.c),
    key=lambda model: model.__name__,
)
Connection = psycopg.Connection[Any]

WRONG: dict[str, dict[str, str] | None] = {
    "never set": None,
    "all empty": {"scope": "", "tenant": "", "person": ""},
    "another tenant": {"scope": "tenant", "tenant": "B", "person": ""},
    "a person of another tenant": {"scope": "person", "tenant": "B", "person": "ada"},
    "a person of no tenant": {"scope": "person", "tenant": "", "person": "ada"},
    "a scope without a tenant": {"scope": "tenant", "tenant": "", "person": ""},
    "almost the system's scope": {"scope": "System ", "tenant": "B", "person": ""},
}


@dataclass(frozen=True)
class Table:
    """A table or partition. `parent`: of a partition, the table that is cut."""

    name: str
    columns: dict[str, str]  # those that a row has to have: {name: type}
    all_columns: frozenset[str]
    parent: str | None
    is_cut: bool

    @property
    def tenant(self) -> str:
        """The column that says whose a row is; "" when it is no tenant's."""
        return "id" if self.name == "tenants" else "tenant_id" if "tenant_id" in self.all_columns else ""


@dataclass(frozen=True)
class House:
    """A database in which the tenant `a` has rows in every table and partition, and the tenant `b` has none."""

    admin_url: str
    app_url: str
    tables: list[Table]
    a: str
    b: str
    content: dict[str, int]

    def one(self, name: str) -> Table:
        """The table of this name."""
        return next(table for table in self.tables if table.name == name)


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, postgres_template: str) -> Iterator[House]:
    made = postgres.create_database("row_level_security", template=postgres_template)
    admin_url = postgres.url_for("postgres", made.name)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        tables = catalog(connection)
        a, b = new_id(), new_id()
        for table in tables:
            fill(connection, table, months(tables, table), a)
        content = {table.name: count(connection, table.name) for table in tables}
    yield House(admin_url, made.app_url, tables, a, b, content)
    postgres.drop_database(made.name)


def catalog(connection: Connection) -> list[Table]:
    """Every table and partition of ours."""
    query = """
    SELECT c.relname, (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = c.oid), c.relkind = 'p',
      array_agg(a.attname::text), array_agg(format_type(a.atttypid, NULL)), array_agg(a.attnotnull AND NOT a.atthasdef)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    GROUP BY c.oid, c.relname, c.relkind ORDER BY 1
    """
    found = []
    for name, parent, is_cut, columns, types, needed in connection.execute(query):
        if name not in NOT_OURS:
            must = {column: kind for column, kind, must in zip(columns, types, needed, strict=True) if must}
            more = {column: "text" for column in columns if column == "user_id"}
            found.append(Table(name, must | more, frozenset(columns), parent, is_cut))
    return found


def months(tables: list[Table], cut: Table) -> list[datetime]:
    """The middle of each month that a table has a partition for."""
    names = [re.search(r"_(\d{4})(\d{2})$", table.name) for table in tables if table.parent == cut.name]
    return [datetime(int(found[1]), int(found[2]), 15, tzinfo=UTC) for found in names if found]


def fill(connection: Connection, table: Table, months: list[datetime], tenant_id: str) -> None:
    """Rows of the tenant, two people's, in every partition."""
    if table.parent:
        return
    for moment in [*months, FAR] if table.is_cut else [datetime.now(UTC)]:
        for user in ("ada", "bob") if "user_id" in table.columns else ("ada",):
            put(connection, table.name, row_for(table, tenant_id, user, moment))


def row_for(table: Table, tenant_id: str, user: str, moment: datetime) -> dict[str, Any]:
    """A row with something of the right type in every column that has to have something."""
    some = {"uuid": new_id, "text": lambda: new_id(), "character varying": lambda: new_id(), "jsonb": lambda: "{}"}
    some |= {"timestamp with time zone": lambda: moment, "integer": lambda: 1, "boolean": lambda: True}
    row = {column: some[kind]() for column, kind in table.columns.items()}
    if "id" in table.columns and table.columns["id"] == "uuid":
        row["id"] = first_id_of(moment)[:18] + new_id()[18:] if moment == FAR else at(moment)
    if table.tenant:
        row[table.tenant] = tenant_id
    return row | ({"user_id": user} if "user_id" in table.columns else {})


def at(moment: datetime) -> str:
    """A new id of this time."""
    return first_id_of(moment)[:18] + new_id()[18:]


def put(connection: Connection, table: str, row: dict[str, Any]) -> int:
    names = [sql.Identifier(name) for name in row]
    holes = sql.SQL(", ").join(sql.Placeholder() * len(row))
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
    return connection.execute(
        statement.format(sql.Identifier(table), sql.SQL(", ").join(names), holes), list(row.values())
    ).rowcount


def count(connection: Connection, table: str, where: str = "true") -> int:
    query = sql.SQL("SELECT count(*) FROM {} WHERE " + where).format(sql.Identifier(table))  # type: ignore[arg-type]
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def as_application(house: House, settings: dict[str, str] | None) -> Iterator[Connection]:
    """A transaction of the application's role with these settings; nothing of it stays."""
    with psycopg.connect(house.app_url, autocommit=False) as connection:
        for name, value in (settings or {}).items():
            value = {"A": house.a, "B": house.b}.get(value, value)
            connection.execute("SELECT set_config(%s, %s, true)", (f"tidings.{name}", value))
        yield connection
        connection.rollback()


def refused(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Whether the database refuses to take this row."""
    try:
        with connection.transaction():
            put(connection, table.name, row)
    except InsufficientPrivilege:
        return True
    return False


SYSTEM = {"scope": "system", "tenant": "", "person": ""}
OWN = {"scope": "tenant", "tenant": "A", "person": ""}
ADA = {"scope": "person", "tenant": "A", "person": "ada"}


def test_the_application_is_an_ordinary_role_that_owns_nothing(house: House) -> None:
    with as_application(house, None) as connection:
        query = "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
        assert connection.execute(f"{query} WHERE rolname = current_user").fetchone() == (False,) * 5
        owned = "SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole"
        assert connection.execute(owned).fetchone() == (0,)
        member = "SELECT count(*) FROM pg_auth_members WHERE member = current_user::regrole"
        assert connection.execute(member).fetchone() == (0,)


def test_every_table_and_partition_is_protected_against_its_owner_too(house: House) -> None:
    with psycopg.connect(house.admin_url) as connection:
        query = "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relkind IN ('r', 'p')"
        protected = dict(connection.execute(f"{query} AND relnamespace = 'public'::regnamespace").fetchall())
    assert {name for name, is_protected in protected.items() if not is_protected} == NOT_OURS
    assert {table.name for table in house.tables} == set(protected) - NOT_OURS


def test_nothing_goes_round_the_policies(house: House) -> None:
    with psycopg.connect(house.admin_url) as connection:
        ours = "IN (SELECT oid FROM pg_namespace WHERE nspname = 'public')"
        views = connection.execute(f"SELECT relname FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace {ours}")
        assert views.fetchall() == [], "a view shows what its owner may see"
        query = f"SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND pronamespace {ours}"
        for name, options in connection.execute(query):
            pinned = [option for option in options or () if option.startswith("search_path=")]
            assert pinned, f"{name} acts as its owner and looks names up where its caller says"


def test_every_table_and_partition_has_rows_to_be_hidden(house: House) -> None:
    assert {name for name, rows in house.content.items() if rows == 0} == set()
    assert {table.parent for table in house.tables if table.parent} == {t.name for t in house.tables if t.is_cut}


@pytest.mark.parametrize("settings", WRONG)
def test_with_wrong_settings_nothing_is_seen_changed_or_added(house: House, settings: str) -> None:
    with as_application(house, WRONG[settings]) as connection:
        for table in house.tables:
            name = sql.Identifier(table.name)
            assert count(connection, table.name) == 0, table.name
            touched = next(iter(sorted(table.all_columns)))
            for statement in (
                sql.SQL("SELECT 1 FROM {} FOR UPDATE").format(name),
                sql.SQL("UPDATE {} SET {c} = {c}").format(name, c=sql.Identifier(touched)),
                sql.SQL("DELETE FROM {}").format(name),
            ):
                assert connection.execute(statement).rowcount == 0, table.name
            with connection.cursor().copy(sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(name)) as copy:
                assert list(copy) == [], table.name
            row = row_for(table, house.a, "ada", datetime.now(UTC))
            assert refused(connection, table, row), table.name
    with psycopg.connect(house.admin_url) as connection:
        assert {table.name: count(connection, table.name) for table in house.tables} == house.content


def test_a_used_connection_is_as_blind_as_a_new_one(house: House) -> None:
    # given a connection that has seen everything: its settings now read as '', not as NULL
    with psycopg.connect(house.app_url, autocommit=True) as connection:
        with connection.transaction():
            for name, value in {"scope": "system", "tenant": house.a, "person": "ada"}.items():
                connection.execute("SELECT set_config(%s, %s, true)", (f"tidings.{name}", value))
            assert count(connection, "tenants") == 1
        left = "SELECT current_setting('tidings.scope', true), current_setting('tidings.tenant', true)"
        assert connection.execute(left).fetchone() == ("", "")
        assert {table.name: count(connection, table.name) for table in house.tables} == dict.fromkeys(house.content, 0)


def test_a_partition_is_closed_to_every_scope(house: House) -> None:
    # It has policies of its own, which is none: whoever asks it directly goes round its parent's.
    for settings in (SYSTEM, OWN, ADA):
        with as_application(house, settings) as connection:
            for table in house.tables:
                if table.parent:
                    assert count(connection, table.name) == 0, table.name
                    assert refused(connection, table, row_for(table, house.a, "ada", datetime.now(UTC)))


def test_a_tenant_sees_all_of_its_own_and_the_system_all(house: House) -> None:
    for settings in (OWN, SYSTEM):
        with as_application(house, settings) as connection:
            for table in house.tables:
                visible = settings is SYSTEM or bool(table.tenant)
                expected = house.content[table.name] if visible and not table.parent else 0
                assert count(connection, table.name) == expected, table.name


def test_a_person_sees_their_own_rows_and_no_others(house: House) -> None:
    seen = set()
    with as_application(house, ADA) as connection:
        for table in house.tables:
            if "user_id" in table.all_columns and count(connection, table.name):
                seen.add(table.name)
                assert count(connection, table.name, "user_id IS DISTINCT FROM 'ada'") == 0, table.name
                assert refused(connection, table, row_for(table, house.a, "bob", datetime.now(UTC))), table.name
            elif table.name != "tenants":  # which says nothing of anybody: its own name and defaults
                assert count(connection, table.name) == 0, table.name
    assert seen == PERSONAL


def test_a_tenant_cannot_give_its_rows_away_or_write_for_another(house: House) -> None:
    with as_application(house, OWN) as connection:
        for table in house.tables:
            if not table.tenant or table.parent:
                continue
            assert refused(connection, table, row_for(table, house.b, "ada", datetime.now(UTC))), table.name
            give = sql.SQL("UPDATE {} SET {} = %s").format(sql.Identifier(table.name), sql.Identifier(table.tenant))
            with pytest.raises(InsufficientPrivilege), connection.transaction():
                connection.execute(give, (house.b,))


def test_a_conflict_with_another_tenants_row_shows_and_changes_nothing(house: House) -> None:
    with psycopg.connect(house.admin_url) as admin:
        known = {
            table.name: admin.execute(
                sql.SQL("SELECT id FROM {} LIMIT 1").format(sql.Identifier(table.name))
            ).fetchone()
            for table in house.tables
            if table.tenant and not table.parent
        }
    with as_application(house, {"scope": "tenant", "tenant": "B", "person": ""}) as connection:
        for name, found in known.items():
            assert found is not None
            table = house.one(name)
            row = row_for(table, house.b, "ada", datetime.now(UTC)) | {"id": str(found[0])}
            names, holes = (
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
            )
            statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET id = {}.id RETURNING *")
            with pytest.raises(InsufficientPrivilege), connection.transaction():
                connection.execute(
                    statement.format(sql.Identifier(name), names, holes, sql.Identifier(name)), list(row.values())
                )


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE recipients DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE recipients NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY open ON recipients USING (true)",
        "DROP POLICY scope ON recipients",
        "TRUNCATE recipients",
        "DROP TABLE recipients",
        "CREATE TABLE mine (id int)",
        f"SET ROLE {OWNER}",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER ROLE current_user BYPASSRLS",
        "SET row_security = off; SELECT * FROM recipients",
        "UPDATE alembic_version SET version_num = 'x'",
        "COPY recipients FROM PROGRAM 'true'",
    ],
)
def test_the_application_cannot_open_its_own_cage(house: House, statement: str) -> None:
    for settings in (None, SYSTEM):
        if settings is SYSTEM and "row_security" in statement:
            continue
        with as_application(house, settings) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(statement)  # type: ignore[call-overload]


def test_the_service_connects_as_this_very_role(house: House, runtime_on_postgres: Runtime) -> None:
    assert runtime_on_postgres.db.url.username == make_url(house.app_url).username


@pytest.fixture
def shape() -> str:
    return "production"


@pytest.fixture
def runtime_on_postgres(runtime: Runtime) -> Runtime:
    return runtime


class TestSqlite:
    """There is no row-level security: outside `system`, a statement that names no tenant is refused before it runs."""

    @pytest.fixture
    def shape(self) -> str:
        return "embedded"

    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__tablename__)
    def test_a_planted_statement_is_refused_on_every_table(self, runtime: Runtime, tenant_id: str, model: Any) -> None:
        planted = [
            select(model),
            select(model).where(model.id == new_id()),
            update(model).values(tenant_id=tenant_id),
            update(model).where(model.id == new_id()).values(id=model.id),
            delete(model),
            insert(model.__table__).from_select(["id"], select(model.id)),
        ]
        for scope in (tenant(tenant_id), person(tenant_id, "ada")):
            for statement in planted:
                with pytest.raises(UnscopedStatementError), runtime.db.transaction(scope) as session:
                    session.execute(statement)
        for scope in (tenant(tenant_id), system(Purpose.SWEEP)):
            with runtime.db.transaction(scope) as session:
                session.execute(select(model).where(model.tenant_id == tenant_id))

    def test_a_session_without_any_scope_is_refused_too(self, runtime: Runtime, tenant_id: str) -> None:
        with runtime.db.engine.connect() as connection, pytest.raises(UnscopedStatementError):
            connection.execute(select(MODELS[0]))

    def test_a_scope_does_not_stay_with_the_connection(self, runtime: Runtime, tenant_id: str) -> None:
        for _ in range(20):  # all connections of the pool
            with runtime.db.transaction(system(Purpose.SWEEP)) as session:
                session.execute(select(MODELS[0]))
        with runtime.db.engine.connect() as connection, pytest.raises(UnscopedStatementError):
            connection.execute(select(MODELS[0]))
