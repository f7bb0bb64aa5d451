"""Topics: named lists of recipients that an event can be posted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, delete, func, select, text
from sqlalchemy.orm import Session

from app import rows
from app.clock import Clock
from app.core.names import TOPIC_FORM, is_topic
from app.db import Transaction
from app.errors import NotFoundError, refuse
from app.ids import new_id
from app.models import Topic, TopicRecipient
from app.paging import Cursor, Page, page

MAX_DESCRIPTION = 1_000  # characters
MAX_LISTED = 10_000  # people added to a list or taken from it in one request
_EMPTIED = 10_000  # people forgotten in one transaction

# Each page begins behind the last person of the page before: found by the unique index, however long the list is.
_MEMBERS = text("""
SELECT user_id FROM topic_recipients WHERE tenant_id = :tenant AND user_id > :after
AND topic_id = (SELECT id FROM topics WHERE tenant_id = :tenant AND name = :name) ORDER BY user_id LIMIT :limit
""")
_REMOVE = """
DELETE FROM topic_recipients WHERE tenant_id = :tenant AND topic_id = :topic AND user_id IN ({people}) RETURNING id
"""
_KNOWN = "SELECT name FROM topics WHERE tenant_id = :tenant AND name IN ({names})"


def get(session: Session, tenant_id: str, name: str) -> Topic:
    """One topic. Raises NotFoundError."""
    found = _find(session, tenant_id, name)
    if found is None:
        raise NotFoundError("There is no topic with this name.")
    return found


def search(session: Session, tenant_id: str, cursor: Cursor) -> Page[Topic]:
    """A tenant's topics, the newest first."""
    return page(session, select(Topic).where(Topic.tenant_id == tenant_id), Topic.id, cursor)


def put(session: Session, clock: Clock, tenant_id: str, name: str, fields: Mapping[str, Any]) -> Topic:
    """Save a topic, new or known; its list stays as it is. `fields`: description. Raises InvalidError."""
    found = _make(session, clock, tenant_id, name)
    found.description = fields.get("description") or ""
    found.updated_at = clock.now()
    session.flush()
    return found


def empty(session: Session, tenant_id: str, name: str) -> bool:
    """Take some thousand people from a list. Returns whether there may be more. Raises NotFoundError."""
    topic = get(session, tenant_id, name)
    mine = (TopicRecipient.tenant_id == tenant_id, TopicRecipient.topic_id == topic.id)
    some = select(TopicRecipient.id).where(*mine).limit(_EMPTIED)
    gone = delete(TopicRecipient).where(TopicRecipient.tenant_id == tenant_id, TopicRecipient.id.in_(some))
    statement = gone.returning(TopicRecipient.id).execution_options(synchronize_session=False)
    return len(session.execute(statement).all()) == _EMPTIED


def remove(session: Session, tenant_id: str, name: str) -> None:
    """Delete a topic with what is left of its list. Raises NotFoundError."""
    topic = get(session, tenant_id, name)
    session.delete(topic)  # first: it waits for those that are adding to the list just now
    session.flush()
    left = delete(TopicRecipient).where(TopicRecipient.tenant_id == tenant_id, TopicRecipient.topic_id == topic.id)
    session.execute(left.execution_options(synchronize_session=False))


def add(session: Session, clock: Clock, tenant_id: str, name: str, user_ids: Iterable[str]) -> int:
    """Put people on a list; the topic is made if it is not there. Returns how many were not on it. Raises InvalidError.

    They need not be saved: who is not known when an event comes has no address, as anywhere else.
    """
    topic, now = _make(session, clock, tenant_id, name), clock.now()
    # In one order everywhere, so that two lists of the same people wait for each other and do not lock up.
    made = [
        {"id": new_id(), "tenant_id": tenant_id, "topic_id": topic.id, "user_id": user_id, "created_at": now}
        for user_id in sorted(set(user_ids))
    ]
    return len(rows.insert(session, TopicRecipient, made))


def take(session: Session, tenant_id: str, name: str, user_ids: Iterable[str]) -> int:
    """Take people from a list; who is not on it is passed by. Returns how many were. Raises NotFoundError."""
    topic, postgres = get(session, tenant_id, name), rows.is_postgres(session)
    people = sorted(set(user_ids))
    values = {"tenant": tenant_id, "topic": topic.id, "people": people if postgres else rows.dumps(people)}
    return len(session.execute(_removal(postgres), values).all())


def members(session: Transaction, tenant_id: str, name: str, *, after: str = "", limit: int) -> list[str]:
    """The next `limit` user ids of a list behind `after`, in the database's order; of an unknown topic none."""
    values = {"tenant": tenant_id, "name": name, "after": after, "limit": limit}
    return list(session.execute(_MEMBERS, values).scalars())


def list_page(session: Session, tenant_id: str, name: str, *, after: str = "", limit: int) -> Page[str]:
    """A page of a list's user ids; its cursor is the last of them. Raises NotFoundError."""
    get(session, tenant_id, name)
    found = members(session, tenant_id, name, after=after, limit=limit + 1)
    return Page(found[:limit], found[limit - 1] if len(found) > limit else None)


def size(session: Session, tenant_id: str, names: Sequence[str]) -> int:
    """How many entries these lists have together."""
    if not names:
        return 0
    ids = select(Topic.id).where(Topic.tenant_id == tenant_id, Topic.name.in_(names)).scalar_subquery()
    query = select(func.count()).select_from(TopicRecipient).where(TopicRecipient.tenant_id == tenant_id)
    query = query.where(TopicRecipient.topic_id.in_(ids))
    return session.execute(query).scalar_one()


def unknown(session: Transaction, tenant_id: str, names: Iterable[str]) -> set[str]:
    """Those names that no topic has."""
    wanted = set(names)
    if not wanted:
        return wanted
    postgres, names = rows.is_postgres(session), sorted(wanted)
    values = {"tenant": tenant_id, "names": names if postgres else rows.dumps(names)}
    return wanted - set(session.execute(_known(postgres), values).scalars())


def _find(session: Session, tenant_id: str, name: str, *, keep: bool = False) -> Topic | None:
    """The topic with this name; with `keep` nobody deletes it before this transaction ends."""
    query = select(Topic).where(Topic.tenant_id == tenant_id, Topic.name == name)
    query = query.with_for_update(read=True, key_share=True) if keep else query
    return session.execute(query.execution_options(populate_existing=True)).scalar_one_or_none()


def _make(session: Session, clock: Clock, tenant_id: str, name: str) -> Topic:
    """The topic with this name, made if it is not there. Raises InvalidError, or NotFoundError if it goes meanwhile."""
    refuse({} if is_topic(name) else {"name": f"is not {TOPIC_FORM}"})
    found = _find(session, tenant_id, name, keep=True)
    if found is None:
        now = clock.now()
        values = {"id": new_id(), "tenant_id": tenant_id, "name": name, "created_at": now, "updated_at": now}
        rows.insert(session, Topic, [values])
        found = get(session, tenant_id, name)
    return found


@lru_cache(maxsize=2)
def _removal(postgres: bool) -> TextClause:
    return text(_REMOVE.format(people=_each("people", postgres)))


@lru_cache(maxsize=2)
def _known(postgres: bool) -> TextClause:
    return text(_KNOWN.format(names=_each("names", postgres)))


def _each(name: str, postgres: bool) -> str:
    """The parameter's list as rows."""
    return f"SELECT unnest(CAST(:{name} AS text[]))" if postgres else f"SELECT value FROM json_each(:{name})"
