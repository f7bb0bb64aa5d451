"""Events whose planning went wrong are found without reading all that wait."""

import sqlalchemy as sa
from alembic import op

revision = "20261120_wrong_events"
down_revision = "20261120_topics_and_pressure"

WRONG = sa.text("status = 'received' AND failures > 0")


def upgrade() -> None:
    op.create_index(
        "ix_event_logs_suspects",
        "event_logs",
        ["lane", "tenant_id", "next_attempt_at"],
        postgresql_where=WRONG,
        sqlite_where=WRONG,
    )


def downgrade() -> None:
    op.drop_index("ix_event_logs_suspects", table_name="event_logs")
