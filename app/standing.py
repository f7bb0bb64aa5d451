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
    return _judged(_revision_of(database))


def complaint(database: Database) -> str:
    """What keeps this code from working with the database, and what to do about it; "" when nothing does."""
    found = _revision_of(database)
    how, last = _judged(found), revisions()[-1]
    if how == "current":
        return ""
    if how == "newer":
        return (
            f"The database is newer than this program: it is at {found}, and this program knows it up to {last}."
            " Start the version that migrated it, or go back with that version:"
            f" `tidings migrate --down {last}`."
        )
    at = f"older than this program: it is at {found}, and {last} is needed" if found else "empty"
    return f"The database is {at}. Run `tidings migrate` first, as its owner (MIGRATION_DATABASE_URL)."


def _revision_of(database: Database) -> str | None:
    """At which migration the database is; None when there has been none."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _judged(found: str | None) -> str:
    known = revisions()
    if found is None:
        return "empty"
    if found == known[-1]:
        return "current"
    return "older" if found in known else "newer"
