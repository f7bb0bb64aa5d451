"""The first tables: tenants and their keys, people, rules, words, events, deliveries and what became of them.

On PostgreSQL the four big tables are partitioned by time (their ids are UUIDv7), and row-level security
binds every table to its tenant: with no scope set, nothing is seen.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261120_first_tables"
down_revision = None

PARTITIONED = ("event_logs", "notification_logs", "delivery_attempts", "webhook_delivery_logs")
# Tables of which a person may see their own rows; of the others a person sees nothing.
PERSONAL = ("recipients", "user_notification_preferences", "notifications", "notification_logs")
SHARED = (
    "api_keys",
    "signing_keys",
    "idempotency_keys",
    "notification_rules",
    "message_templates",
    "webhook_configurations",
    "webhook_delivery_logs",
    "event_logs",
    "delivery_contents",
    "delivery_attempts",
)
# A setting used before in the same connection reads as '' afterwards, not as NULL: both mean unset.
SYSTEM = "(SELECT current_setting('tidings.scope', true)) = 'system'"
TENANT = "{column} = (SELECT nullif(current_setting('tidings.tenant', true), '')::uuid)"
PERSON = "(SELECT coalesce(nullif(current_setting('tidings.person', true), ''), '')) {test}"


def ident() -> sa.types.TypeEngine:
    return sa.CHAR(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def moment() -> sa.types.TypeEngine:
    return sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def document() -> sa.types.TypeEngine:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def only(condition: str) -> dict:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    create_tables()
    if op.get_bind().dialect.name == "postgresql":
        for table in PARTITIONED:
            op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
            secure(f"{table}_default")
        for table in PERSONAL:
            protect(table, "tenant_id", PERSON.format(test="IN ('', user_id)"))
        for table in SHARED:
            protect(table, "tenant_id", PERSON.format(test="= ''"))
        protect("tenants", "id", "true")


def secure(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def protect(table: str, column: str, person: str) -> None:
    secure(table)
    op.execute(f"CREATE POLICY scope ON {table} USING ({SYSTEM} OR ({TENANT.format(column=column)} AND {person}))")


def downgrade() -> None:
    for table in (*PERSONAL, *SHARED, "tenants"):
        op.drop_table(table)


def create_tables() -> None:
    op.create_table(
        "api_keys",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("scopes", document(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("expires_at", moment(), nullable=True),
        sa.Column("revoked_at", moment(), nullable=True),
        sa.Column("last_used_at", moment(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
    )
    op.create_index("ix_api_keys_tenant_id_id", "api_keys", ["tenant_id", "id"])
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery_id", ident(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("started_at", moment(), nullable=False),
        sa.Column("finished_at", moment(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("detail", document(), nullable=True),
        sa.Column("next_attempt_at", moment(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery_attempts"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_delivery_attempts_delivery", "delivery_attempts", ["tenant_id", "delivery_id", "number"])
    op.create_table(
        "delivery_contents",
        sa.Column("parts", document(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery_contents"),
    )
    op.create_table(
        "event_logs",
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("data", document(), nullable=False),
        sa.Column("user_ids", document(), nullable=False),
        sa.Column("occurred_at", moment(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("cursor", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", moment(), nullable=False),
        sa.Column("lease_until", moment(), nullable=True),
        sa.Column("planned_at", moment(), nullable=True),
        sa.Column("notes", document(), nullable=False, server_default=sa.text("'[]'")),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event_logs"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index(
        "ix_event_logs_due", "event_logs", ["lane", "tenant_id", "next_attempt_at"], **only("status = 'received'")
    )
    op.create_index("ix_event_logs_leased", "event_logs", ["lease_until"], **only("status = 'planning'"))
    op.create_index("ix_event_logs_tenant", "event_logs", ["tenant_id", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("api_key_id", ident(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("lease_until", moment(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", document(), nullable=True),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("expires_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint(
            "tenant_id", "api_key_id", "route", "key", name="uq_idempotency_keys_tenant_id_api_key_id_route_key"
        ),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_table(
        "message_templates",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("parts", document(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_message_templates"),
        sa.UniqueConstraint(
            "tenant_id", "key", "channel", "locale", name="uq_message_templates_tenant_id_key_channel_locale"
        ),
    )
    op.create_table(
        "notification_logs",
        sa.Column("event_id", ident(), nullable=True),
        sa.Column("event_type", sa.String(), nullable=True),
        sa.Column("rule_id", ident(), nullable=True),
        sa.Column("configuration_id", ident(), nullable=True),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=True),
        sa.Column("template", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("losses", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", moment(), nullable=True),
        sa.Column("lease_until", moment(), nullable=True),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("provider_id", sa.String(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("sent_at", moment(), nullable=True),
        sa.Column("deferred_at", moment(), nullable=True),
        sa.Column("delivered_at", moment(), nullable=True),
        sa.Column("bounced_at", moment(), nullable=True),
        sa.Column("dropped_at", moment(), nullable=True),
        sa.Column("complained_at", moment(), nullable=True),
        sa.Column("opened_at", moment(), nullable=True),
        sa.Column("clicked_at", moment(), nullable=True),
        sa.Column("read_at", moment(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notification_logs"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index(
        "ix_notification_logs_due",
        "notification_logs",
        ["lane", "tenant_id", "channel", "turn", "next_attempt_at"],
        **only("status = 'pending'"),
    )
    op.create_index("ix_notification_logs_event", "notification_logs", ["tenant_id", "event_id"])
    op.create_index("ix_notification_logs_leased", "notification_logs", ["lease_until"], **only("status = 'sending'"))
    op.create_index("ix_notification_logs_tenant", "notification_logs", ["tenant_id", "id"])
    op.create_index("ix_notification_logs_user", "notification_logs", ["tenant_id", "user_id", "id"])
    op.create_table(
        "notification_rules",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("condition", sa.String(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("critical", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("actions", document(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notification_rules"),
    )
    op.create_index("ix_notification_rules_tenant_id_enabled", "notification_rules", ["tenant_id", "enabled"])
    op.create_table(
        "notifications",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("event_id", ident(), nullable=True),
        sa.Column("event_type", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("action_url", sa.String(), nullable=True),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("read_at", moment(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
    )
    op.create_index("ix_notifications_tenant_id_user_id_id", "notifications", ["tenant_id", "user_id", "id"])
    op.create_index("ix_notifications_tenant_id_user_id_read_at", "notifications", ["tenant_id", "user_id", "read_at"])
    op.create_table(
        "recipients",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("locale", sa.String(), nullable=True),
        sa.Column("time_zone", sa.String(), nullable=True),
        sa.Column("attributes", document(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recipients"),
        sa.UniqueConstraint("tenant_id", "user_id", name="uq_recipients_tenant_id_user_id"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("algorithm", sa.String(), nullable=False),
        sa.Column("material", sa.String(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("revoked_at", moment(), nullable=True),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signing_keys"),
    )
    op.create_index("ix_signing_keys_tenant_id_id", "signing_keys", ["tenant_id", "id"])
    op.create_table(
        "tenants",
        sa.Column("id", ident()),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("webhook_secret", sa.String(), nullable=False),
        sa.Column("preference_defaults", document(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.create_table(
        "user_notification_preferences",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_notification_preferences"),
        sa.UniqueConstraint(
            "tenant_id",
            "user_id",
            "category",
            "channel",
            name="uq_user_notification_preferences_choice",
        ),
    )
    op.create_table(
        "webhook_configurations",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("event_types", document(), nullable=False),
        sa.Column("description", sa.String(), nullable=False, server_default=sa.text("''")),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("disabled_reason", sa.String(), nullable=True),
        sa.Column("disabled_at", moment(), nullable=True),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_configurations"),
    )
    op.create_index("ix_webhook_configurations_tenant_id_id", "webhook_configurations", ["tenant_id", "id"])
    op.create_table(
        "webhook_delivery_logs",
        sa.Column("delivery_id", ident(), nullable=False),
        sa.Column("configuration_id", ident(), nullable=True),
        sa.Column("event_id", ident(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("request_headers", document(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("response_headers", document(), nullable=True),
        sa.Column("response_body", sa.String(), nullable=True),
        sa.Column("peer", sa.String(), nullable=True),
        sa.Column("times", document(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("started_at", moment(), nullable=False),
        sa.Column("id", ident()),
        sa.Column("tenant_id", ident(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery_logs"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index(
        "ix_webhook_delivery_logs_configuration", "webhook_delivery_logs", ["tenant_id", "configuration_id", "id"]
    )
    op.create_index("ix_webhook_delivery_logs_delivery", "webhook_delivery_logs", ["tenant_id", "delivery_id"])
