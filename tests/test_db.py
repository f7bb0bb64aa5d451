"""Who may see what: row-level security on PostgreSQL, the guard on SQLite; migrations forward and back on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app import schema
from app.core import inbox
from app.core.runtime import Runtime
from app.db import Database, apply_scope
from app.ids import new_id
from app.models import Base, InAppNotification, Tenant
from app.standing import MIGRATIONS, revisions, standing
from app.tenancy import Purpose, UnscopedStatementError, names_its_tenant, person, system, tenant
from tests.servers.postgres import PostgresServer

TENANT_TABLES = sorted(
    table.name for table in Base.metadata.sorted_tables if "tenant_id" in table.c or table.name == "tenants"
)


@pytest.fixture
def two_tenants(runtime: Runtime, tenant_id: str) -> tuple[str, str]:
    """Two tenants, each with a notification for `ada` and one for `bob`."""
    now = runtime.clock.now()
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        other = Tenant(name="other", webhook_secret="", created_at=now)
        session.add(other)
        session.flush()
        other_id = other.id
    for owner in (tenant_id, other_id):
        with runtime.db.transaction(tenant(owner)) as session:
            common = {"event_id": None, "event_type": None, "type": "info", "message": "", "action_url": None}
            rows = [
                common | {"id": new_id(), "user_id": user, "title": user, "created_at": now} for user in ("ada", "bob")
            ]
            inbox.add(session, owner, rows)
    return tenant_id, other_id


def test_a_tenant_sees_its_own_rows_only(runtime: Runtime, two_tenants: tuple[str, str]) -> None:
    mine, other = two_tenants
    for owner in (mine, other):
        with runtime.db.transaction(tenant(owner), read_only=True) as session:
            found = session.execute(select(InAppNotification).where(InAppNotification.tenant_id == owner)).scalars()
            assert {row.tenant_id for row in found} == {owner}


class TestPostgres:
    """The database itself refuses, whatever the statement says."""

    @pytest.fixture
    def shape(self) -> str:
        return "production"

    @pytest.mark.parametrize("table", TENANT_TABLES)
    def test_without_a_scope_nothing_is_seen(self, runtime: Runtime, tenant_id: str, table: str) -> None:
        with runtime.db.engine.connect() as connection:
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0

    def test_a_setting_left_empty_by_an_earlier_transaction_shows_nothing(
        self, runtime: Runtime, two_tenants: tuple[str, str]
    ) -> None:
        # given a connection that was used in a tenant's scope before: its settings now read as ''
        with runtime.db.engine.connect() as connection:
            with connection.begin():
                apply_scope(tenant(two_tenants[0]), connection)
                assert connection.execute(text("SELECT count(*) FROM notifications")).scalar() == 2
            # then in the next transaction, nothing
            assert connection.execute(text("SELECT current_setting('tidings.tenant', true)")).scalar() == ""
            assert connection.execute(text("SELECT count(*) FROM notifications")).scalar() == 0

    def test_a_statement_without_any_predicate_sees_the_scopes_rows_only(
        self, runtime: Runtime, two_tenants: tuple[str, str]
    ) -> None:
        mine, other = two_tenants
        seen = {}
        for name, scope in {
            "tenant": tenant(mine),
            "person": person(mine, "ada"),
            "system": system(Purpose.SWEEP),
        }.items():
            with runtime.db.transaction(scope) as session:
                query = text("SELECT tenant_id::text, user_id FROM notifications")
                seen[name] = {tuple(row) for row in session.execute(query)}
        assert seen == {
            "tenant": {(mine, "ada"), (mine, "bob")},
            "person": {(mine, "ada")},
            "system": {(mine, "ada"), (mine, "bob"), (other, "ada"), (other, "bob")},
        }

    @pytest.mark.parametrize("table", ["rules", "keys", "webhooks", "templates", "events"])
    def test_a_person_sees_nothing_that_is_the_tenants(self, runtime: Runtime, tenant_id: str, table: str) -> None:
        names = {
            "rules": "notification_rules",
            "keys": "api_keys",
            "webhooks": "webhook_configurations",
            "templates": "message_templates",
            "events": "event_logs",
        }
        with runtime.db.transaction(person(tenant_id, "ada")) as session:
            assert session.execute(text(f"SELECT count(*) FROM {names[table]}")).scalar() == 0

    def test_a_row_cannot_be_written_into_another_tenant(self, runtime: Runtime, two_tenants: tuple[str, str]) -> None:
        mine, other = two_tenants
        with pytest.raises(DBAPIError, match="row-level security"), runtime.db.transaction(tenant(mine)) as session:
            row = {"event_id": None, "event_type": None, "type": "info", "message": "", "action_url": None}
            row |= {"id": new_id(), "user_id": "ada", "title": "", "created_at": runtime.clock.now()}
            inbox.add(session, other, [row])

    def test_a_partition_read_directly_shows_nothing(self, runtime: Runtime, tenant_id: str) -> None:
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            names = session.execute(
                text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")
            ).scalars()
            for name in list(names):
                protected = text("SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = :name")
                assert session.execute(protected, {"name": name}).scalar(), name
                assert session.execute(text(f"SELECT count(*) FROM {name}")).scalar() == 0

    def test_the_application_is_an_ordinary_role_that_owns_nothing(self, runtime: Runtime) -> None:
        with runtime.db.engine.connect() as connection:
            role = connection.execute(
                text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
            ).one()
            owned = connection.execute(
                text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user")
            ).scalar()
            assert (tuple(role), owned) == ((False, False), 0)


class TestSqlite:
    """There is no row-level security: a statement that forgets its tenant is refused."""

    @pytest.fixture
    def shape(self) -> str:
        return "embedded"

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM notifications",
            "SELECT id, tenant_id FROM notifications WHERE user_id = 'ada'",
            "DELETE FROM notification_rules WHERE id = 'x'",
            "UPDATE notification_logs SET status = 'sent' WHERE id = 'x'",
            "INSERT INTO notifications (id) VALUES ('x')",
            "UPDATE notification_rules SET tenant_id = :other WHERE id = 'x'",
            "SELECT a.id FROM notifications a JOIN recipients b ON a.tenant_id = b.tenant_id WHERE a.id = 'x'",
            "SELECT id FROM notifications WHERE tenant_id IN (SELECT id FROM tenants)",
        ],
    )
    def test_a_statement_that_names_no_tenant_is_refused(
        self, runtime: Runtime, tenant_id: str, statement: str
    ) -> None:
        with pytest.raises(UnscopedStatementError), runtime.db.transaction(tenant(tenant_id)) as session:
            session.execute(text(statement), {"other": tenant_id})
        with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
            if statement.startswith("SELECT"):
                session.execute(text(statement))  # the listed purposes may

    def test_every_table_of_a_tenant_is_guarded(self) -> None:
        for table in TENANT_TABLES:
            assert not names_its_tenant(f"SELECT * FROM {table}")

    def test_a_reader_does_not_wait_for_a_writer(self, runtime: Runtime, tenant_id: str) -> None:
        with (
            runtime.db.transaction(tenant(tenant_id)),
            runtime.db.transaction(tenant(tenant_id), read_only=True) as session,
        ):
            assert session.execute(text("SELECT 1")).scalar() == 1

    def test_what_is_committed_is_on_the_disk(self, runtime: Runtime) -> None:
        with runtime.db.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


class TestMigrations:
    """Forward and back, on both databases, to just what the models say."""

    @pytest.fixture(params=["sqlite", "postgresql"])
    def urls(
        self, request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer
    ) -> Iterator[tuple[str, str]]:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'fresh.db'}"
            yield url, url
            return
        made = postgres.create_database("migrations")
        yield made.owner_url, made.app_url
        postgres.drop_database("migrations")

    def test_forward_back_and_forward_again(self, urls: tuple[str, str]) -> None:
        owner, application = urls
        database = Database(owner)
        assert standing(database) == "empty"
        schema.upgrade(owner, application)
        assert standing(database) == "current"
        schema.downgrade(owner)
        left = set(inspect(database.engine.connect()).get_table_names()) if "postgresql" in owner else set()
        assert left <= {"alembic_version"}
        schema.upgrade(owner, application)
        schema.upgrade(owner, application)  # again is harmless
        assert standing(database) == "current"
        database.close()

    def test_the_migrations_say_what_the_models_say(self, urls: tuple[str, str]) -> None:
        owner, application = urls
        schema.upgrade(owner, application)
        database = Database(owner)
        with database.engine.connect() as connection:
            apply_scope(system(Purpose.MIGRATE), connection)
            options = {
                "include_object": lambda _object, _name, kind, reflected, other: (
                    not (kind == "table" and reflected and other is None)
                )
            }
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, Base.metadata) == []
        database.close()

    def test_the_revisions_are_called_as_their_files_and_follow_their_dates(self) -> None:
        script = ScriptDirectory(str(MIGRATIONS))
        assert [item.revision for item in script.walk_revisions()][::-1] == revisions()

    def test_a_newer_database_is_known_as_such(self, urls: tuple[str, str]) -> None:
        owner, application = urls
        schema.upgrade(owner, application)
        database = Database(owner)
        with database.engine.begin() as connection:
            apply_scope(system(Purpose.MIGRATE), connection)
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '99990101_of_tomorrow'")
        assert standing(database) == "newer"
        database.close()


def test_a_database_that_is_away_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperationalError):
        Database("postgresql://nobody@127.0.0.1:1/none").ping()
