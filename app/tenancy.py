"""Whose rows a transaction may see, and the guard that SQLite has in place of row-level security."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any


class Purpose(StrEnum):
    """What a transaction may see every tenant for. A test holds this list."""

    AUTHENTICATE = "authenticate"
    CALLBACK = "callback"
    CLAIM = "claim"
    SWEEP = "sweep"
    MIGRATE = "migrate"
    ADMIT = "admit"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a transaction sees. Make one with `system`, `tenant` or `person`."""

    kind: str
    purpose: str = ""
    tenant_id: str = ""
    user_id: str = ""


def system(purpose: Purpose) -> Scope:
    """All tenants, for one of the listed purposes."""
    return Scope("system", purpose=purpose.value)


def tenant(tenant_id: str) -> Scope:
    """One tenant."""
    return Scope("tenant", tenant_id=tenant_id)


def person(tenant_id: str, user_id: str) -> Scope:
    """One person of one tenant."""
    return Scope("person", tenant_id=tenant_id, user_id=user_id)


class UnscopedStatementError(Exception):
    """A statement touches a tenant's table without saying which tenant: our bug, refused."""


def check(info: dict[str, Any], statement: str) -> None:
    """Raise UnscopedStatementError if the transaction of `info` may not run a statement on SQLite."""
    scope: Scope | None = info["scope"]
    if (scope is None or scope.kind != "system") and not names_its_tenant(statement):
        raise UnscopedStatementError(f"a statement on a tenant table names no tenant: {statement[:200]}")


_TENANT_TABLES: set[str] = set()
# Compared with a value that the caller gives, after WHERE: not set, and not compared with another column.
_PREDICATE = re.compile(r"\bwhere\b.*\b(?:tenant_id|tenants\.id)\"?\s*=\s*[?:]", re.IGNORECASE | re.DOTALL)


def register_tenant_table(name: str) -> None:
    """Models say which tables belong to tenants."""
    _TENANT_TABLES.add(name)


@lru_cache(maxsize=2048)
def names_its_tenant(statement: str) -> bool:
    """Whether a statement leaves tenant tables alone, or says which tenant it means."""
    words = set(re.findall(r"\w+", statement.lower()))
    if not words & _TENANT_TABLES:
        return True
    if statement.lstrip()[:6].upper() == "INSERT":
        return "tenant_id" in words
    return bool(_PREDICATE.search(statement))
