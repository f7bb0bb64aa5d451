"""Topics, dedupe, expiry, lanes of rules, and what keeps a service upright under pressure.

Only adds: code of the revision before goes on writing and reading beside this one (see docs/operations.md).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261120_topics_and_pressure"
down_revision = "20261120_first_tables"

TENANT_TABLES = ("topics", "topic_recipients", "event_dedupes", "erasures")
# Of the whole installation, no tenant's: only the service itself writes them.
SYSTEM_TABLES = ("provider_rates", "breakers", "service_state")
# A setting used before in the same connection reads as '' afterwards, not as NULL: both mean unset.
SYSTEM = "(SELECT current_setting('tidings.scope', true)) = 'system'"
TENANT = "tenant_id = (SELECT nullif(current_setting('tidings.tenant', true), '')::uuid)"
NO_PERSON = "(SELECT coalesce(nullif(current_setting('tidings.person', true), ''), '')) = ''"


def ident() -> sa.types.TypeEngine:
    return sa.CHAR(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def moment() -> sa.types.TypeEngine:
    return sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def document() -> sa.types.TypeEngine:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def added_columns() -> dict[str, list[sa.Column]]:
    """{table: the columns it gets}."""
    return {
        "event_logs": [
            sa.Column("expires_at", moment(), nullable=True),
            sa.Column("topics", document(), nullable=False, server_default=sa.text("'[]'")),
            sa.Column("topic_index", sa.Integer(), nullable=False, server_default=sa.text("0")),
            sa.Column("topic_after", sa.String(), nullable=False, server_default=sa.text("''")),
            sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
            sa.Column("dedupe_key", sa.String(), nullable=True),
            sa.Column("traceparent", sa.String(), nullable=True),
        ],
        "notification_logs": [
            sa.Column("expires_at", moment(), nullable=True),
            sa.Column("traceparent", sa.String(), nullable=True),
        ],
        "notification_rules": [sa.Column("lane", sa.String(), nullable=True)],
    }


def upgrade() -> None:
    for table, columns in added_columns().items():
        for column in columns:
            op.add_column(table, column)
    create_tenant_tables()
    create_system_tables()
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            secure(table)
            op.execute(f"CREATE POLICY scope ON {table} USING ({SYSTEM} OR ({TENANT} AND {NO_PERSON}))")
        for table in SYSTEM_TABLES:
            secure(table)
            op.execute(f"CREATE POLICY scope ON {table} USING ({SYSTEM})")


def secure(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    for table in (*TENANT_TABLES, *SYSTEM_TABLES):
        op.drop_table(table)
    for table, columns in added_columns().items():
        for column in columns:
            op.drop_column(table, column.name)


def create_tenant_tables() -> None:
    op.create_table(
        "topics",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False, server_default=sa.text("''")),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_topics"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_topics_tenant_id_name"),
    )
    op.create_table(
        "topic_recipients",
        sa.Column("topic_id", ident(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_topic_recipients"),
        sa.UniqueConstraint("tenant_id", "topic_id", "user_id", name="uq_topic_recipients_tenant_id_topic_id_user_id"),
    )
    op.create_index("ix_topic_recipients_tenant_id_user_id", "topic_recipients", ["tenant_id", "user_id"])
    op.create_table(
        "event_dedupes",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("event_id", ident(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("expires_at", moment(), nullable=False),
        sa.Column("last_duplicate_at", moment(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event_dedupes"),
        sa.UniqueConstraint("tenant_id", "key", name="uq_event_dedupes_tenant_id_key"),
    )
    op.create_index("ix_event_dedupes_expires_at", "event_dedupes", ["expires_at"])
    op.create_table(
        "erasures",
        sa.Column("user_hash", sa.String(), nullable=False),
        sa.Column("requested_at", moment(), nullable=False),
        sa.Column("finished_at", moment(), nullable=True),
        sa.Column("counts", document(), nullable=False),
        sa.Column("progress", sa.String(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
    )
    op.create_index("ix_erasures_tenant_id_id", "erasures", ["tenant_id", "id"])


def create_system_tables() -> None:
    op.create_table(
        "provider_rates",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_free_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_provider_rates"),
    )
    op.create_table(
        "breakers",
        # In the order of its bytes: names that begin alike stand together.
        sa.Column("name", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("openings", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("opened_at", moment(), nullable=False),
        sa.Column("probe_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_breakers"),
    )
    op.create_table(
        "service_state",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", document(), nullable=False),
        sa.Column("measured_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_service_state"),
    )
