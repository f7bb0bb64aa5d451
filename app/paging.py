"""Cursor pages: the newest first, and a mark to go on from.

A cursor is the id of the last item of the page before; ids are UUIDv7, so their order is the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import InvalidError
from app.ids import is_id

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list. `next_cursor` goes into the next request's `after`; None: that was the end."""

    items: list[T]
    next_cursor: str | None

    def map(self, function: Callable[[T], Any]) -> Page[Any]:
        """The same page of other things."""
        return Page([function(item) for item in self.items], self.next_cursor)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins and how long it may be."""

    limit: int = 50
    after: str | None = None

    def __post_init__(self) -> None:
        if self.after is not None and not is_id(self.after):
            raise InvalidError({"after": "is not a cursor that a page gave"})


def page(
    session: Session,
    statement: Select[Any],
    ids: InstrumentedAttribute[str],
    cursor: Cursor,
    *,
    newest: bool = True,
) -> Page[Any]:
    """One page of `statement` (which selects one entity), ordered by its id column `ids`."""
    if cursor.after is not None:
        after = cursor.after.lower()
        statement = statement.where(ids < after if newest else ids > after)
    ordered = statement.order_by(ids.desc() if newest else ids.asc()).limit(cursor.limit + 1)
    found = list(session.execute(ordered).scalars())
    items = found[: cursor.limit]
    return Page(items, items[-1].id if len(found) > cursor.limit else None)


def page_of(found: Mapping[str, T], cursor: Cursor) -> Page[T]:
    """One page of what is at hand already: {id: item}, in its order. Raises InvalidError for a cursor that is none."""
    ids = list(found)
    if cursor.after is not None and cursor.after not in found:
        raise InvalidError({"after": "is not a cursor that a page gave"})
    begin = ids.index(cursor.after) + 1 if cursor.after is not None else 0
    wanted = ids[begin : begin + cursor.limit]
    more = begin + cursor.limit < len(ids)
    return Page([found[name] for name in wanted], wanted[-1] if more else None)
