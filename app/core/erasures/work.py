"""Whose removal it is, and what it has done so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.models import TenantOwned

PLAIN = {"synchronize_session": False}


@dataclass(slots=True)
class Work:
    """Whose removal it is. `counts`: {table: rows removed or changed}; `alone`: events that named nobody else."""

    session: Session
    tenant_id: str
    user_id: str
    words: Sequence[str]
    now: datetime
    counts: Counter[str] = field(default_factory=Counter)
    alone: list[str] = field(default_factory=list)

    def count(self, model: type[TenantOwned], number: int) -> None:
        """So many rows more."""
        if number:
            self.counts[model.__tablename__] += number

    def delete(self, model: type[TenantOwned], *conditions: Any) -> None:
        """Remove the tenant's rows that meet the conditions."""
        statement = delete(model).where(model.tenant_id == self.tenant_id, *conditions)
        self.count(model, self.session.execute(statement, execution_options=PLAIN).rowcount)  # type: ignore[attr-defined]
