"""How a delivery is marked whose person was removed, and how what comes late for it is kept out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from app import rows
from app.db import Transaction
from app.rows import Condition

ERASED = "erased"  # a delivery's reason: there is nobody left to send it to


def kept_out(session: Transaction, tenant_id: str, column: str, deliveries: Sequence[str]) -> Condition:
    """A condition for `rows.put`: the delivery whose id is in this column of a row was not erased.

    `deliveries` are those ids. A worker that lost its lease may wake up long after, with the words of somebody who is
    gone.
    """
    postgres = rows.is_postgres(session)
    values = {"ids": rows.id_list(deliveries, postgres), "tenant": tenant_id}
    return Condition(_statement(column, postgres), values)


@lru_cache(maxsize=8)
def _statement(column: str, postgres: bool) -> str:
    # The few that are erased are found first, by the ids named outright. Looked up row by row, a table not analysed yet
    # is read from end to end for each.
    return (
        f"r.{column} NOT IN (SELECT id FROM notification_logs WHERE {rows.these('notification_logs', postgres)}"
        f" AND (tenant_id = :tenant AND reason = '{ERASED}') IS TRUE)"
    )
