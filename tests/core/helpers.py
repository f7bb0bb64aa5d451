"""What the tests of the straight line share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, text

from app.core import direct, pipeline
from app.core.deliveries import send
from app.core.direct import DirectSend
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.db import Transaction
from app.models import Rule, WebhookConfiguration
from app.tenancy import tenant
from providers.contract import Channel
from providers.webhook.signature import new_secret

ADA = {"user_id": "ada", "name": "Ada", "email": "ada@example.com", "phone": "+15005550006"}
ORDER = {"orderId": "A-1001", "total": 49.9, "currency": "EUR"}


def add_endpoint(runtime: Runtime, tenant_id: str, url: str, event_types: tuple[str, ...] = ("*",)) -> str:
    """A subscriber; returns its id."""
    now = runtime.clock.now()
    made = WebhookConfiguration(
        tenant_id=tenant_id,
        url=url,
        event_types=list(event_types),
        secret=runtime.vault.seal(new_secret()),
        enabled=True,
        description="",
        created_at=now,
        updated_at=now,
    )
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.add(made)
        session.flush()
        return made.id


def accept(runtime: Runtime, tenant_id: str, *events: EventInput, test: bool = False) -> list[str]:
    """Post events; returns their ids."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        return [found.id for found in pipeline.accept_events(session, runtime, tenant_id, events, test=test)]


def post_direct(runtime: Runtime, tenant_id: str, channel: Channel, to: str, **content: Any) -> str:
    """Write down one direct send; returns the delivery's id."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        return direct.send_direct(session, runtime, tenant_id, DirectSend(channel, (to,), content))[0]


def rows_of(runtime: Runtime, tenant_id: str, model: Any, **where: Any) -> list[Any]:
    """The rows of one kind, in the order of their ids."""
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        query = select(model).where(model.tenant_id == tenant_id).order_by(model.id)
        for name, value in where.items():
            query = query.where(getattr(model, name) == value)
        return list(session.execute(query).scalars())


def keep_only(runtime: Runtime, tenant_id: str, channel: str) -> None:
    """Let the seeded rules speak on one channel."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        for rule in session.execute(select(Rule).where(Rule.tenant_id == tenant_id)).scalars():
            rule.actions = [action for action in rule.actions if action["channel"] == channel]


def drain(runtime: Runtime) -> None:
    """Do what is due, as a worker would."""
    for lane in Lane:
        while send.deliver(runtime, lane):
            pass


_READ = text(
    "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
    " WHERE relname LIKE :table"
)


def rows_read(session: Transaction, table: str) -> int:
    """How many rows of a table, with its partitions, PostgreSQL has read on this connection and not yet reported.

    The difference of two readings in one transaction is what was read between them.
    """
    return int(session.execute(_READ, {"table": f"{table}%"}).scalar() or 0)
