"""How a delivery is marked whose person was removed, and how what comes late for it is kept out."""

from __future__ import annotations

ERASED = "erased"  # a delivery's reason: there is nobody left to send it to


def unless_erased(column: str) -> str:
    """A condition for `rows.put`: the delivery whose id is in this column of the row was not erased.

    A worker that lost its lease may wake up long after, with the words of somebody who is gone.
    """
    # A value, not an EXISTS: that could be turned into a join, which reads all deliveries of a table not analysed yet.
    return (
        "coalesce((SELECT n.reason FROM notification_logs AS n"
        f" WHERE n.id = r.{column} AND (n.tenant_id = r.tenant_id) IS TRUE), '') <> '{ERASED}'"
    )
