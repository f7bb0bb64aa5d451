"""How the database stands to this code. Apart from `schema`, so that the service need not load Alembic to know."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text

from app.db import Database

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def revisions() -> list[str]:
    """The migrations in their order: a revision is called as its file is, and begins with its date."""
    return sorted(path.stem for path in (MIGRATIONS / "versions").glob("*.py"))


def standing(database: Database) -> str:
    """Either "current", "older", "newer" or "empty"."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return "empty"
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    known = revisions()
    if found is None:
        return "empty"
    if found == known[-1]:
        return "current"
    return "older" if found in known else "newer"
