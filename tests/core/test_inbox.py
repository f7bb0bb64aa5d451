"""The bell's list: added to, listed, marked, taken from; each person their own."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import inbox
from app.core.runtime import Runtime
from app.ids import new_id
from app.paging import Cursor
from app.tenancy import person, tenant


def item(runtime: Runtime, user_id: str, title: str, kind: str = "info") -> dict[str, Any]:
    return {
        "id": new_id(),
        "user_id": user_id,
        "event_id": None,
        "event_type": "a.b",
        "type": kind,
        "title": title,
        "message": "m",
        "action_url": None,
        "created_at": runtime.clock.now(),
    }


@pytest.fixture
def items(runtime: Runtime, tenant_id: str) -> list[dict[str, Any]]:
    made = [item(runtime, "ada", "one"), item(runtime, "ada", "two", "error"), item(runtime, "eve", "hers")]
    with runtime.db.transaction(tenant(tenant_id)) as session:
        inbox.add(session, tenant_id, made)
    return made


def titles(runtime: Runtime, tenant_id: str, user_id: str, **filters: Any) -> list[str]:
    with runtime.db.transaction(person(tenant_id, user_id), read_only=True) as session:
        return [found.title for found in inbox.search(session, tenant_id, user_id, Cursor(), **filters).items]


def test_adding_again_is_harmless(runtime: Runtime, tenant_id: str, items: list[dict[str, Any]]) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        inbox.add(session, tenant_id, [items[0] | {"title": "changed"}])

    assert titles(runtime, tenant_id, "ada") == ["two", "one"]


def test_marking_counts_only_what_was_unread_and_ones_own(
    runtime: Runtime, tenant_id: str, items: list[dict[str, Any]]
) -> None:
    ids = [found["id"] for found in items] + ["no id", new_id()]
    with runtime.db.transaction(person(tenant_id, "ada")) as session:
        assert inbox.mark_as_read(session, runtime.clock, tenant_id, "ada", ids[:1]) == 1
        assert inbox.mark_as_read(session, runtime.clock, tenant_id, "ada", ids) == 1
        assert inbox.unread_count(session, tenant_id, "ada") == 0
    with runtime.db.transaction(person(tenant_id, "eve")) as session:
        assert inbox.unread_count(session, tenant_id, "eve") == 1
        assert inbox.mark_as_read(session, runtime.clock, tenant_id, "eve", None) == 1


def test_filters_keep_what_they_say(runtime: Runtime, tenant_id: str, items: list[dict[str, Any]]) -> None:
    with runtime.db.transaction(person(tenant_id, "ada")) as session:
        inbox.mark_as_read(session, runtime.clock, tenant_id, "ada", [items[0]["id"]])

    assert titles(runtime, tenant_id, "ada", unread=True) == ["two"]
    assert titles(runtime, tenant_id, "ada", unread=False) == ["one"]
    assert titles(runtime, tenant_id, "ada", read=True) == ["one"]
    assert titles(runtime, tenant_id, "ada", read=False) == ["two"]
    assert titles(runtime, tenant_id, "ada", read=True, unread=True) == []
    assert titles(runtime, tenant_id, "ada", kind="error") == ["two"]
    assert titles(runtime, tenant_id, "ada", since=runtime.clock.now()) == []


def test_deleting_takes_only_ones_own(runtime: Runtime, tenant_id: str, items: list[dict[str, Any]]) -> None:
    with runtime.db.transaction(person(tenant_id, "ada")) as session:
        assert inbox.delete(session, tenant_id, "ada", [found["id"] for found in items]) == 2

    assert titles(runtime, tenant_id, "ada") == []
    assert titles(runtime, tenant_id, "eve") == ["hers"]
