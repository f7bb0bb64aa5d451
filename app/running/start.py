"""What is looked at before a process starts, and in which words an operator hears why it does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app.config import Settings, SettingsError
from app.crypto import Vault, VaultError
from app.db import Database
from app.errors import InvalidError, RequestError
from app.models import Tenant
from app.partitions import AnotherRunError
from app.standing import complaint
from app.tenancy import Purpose, system


class StartError(Exception):
    """A process cannot start as things stand; the text says why."""


_OTHER_KEY = "SECRET_KEY: is not the one with which this database's secrets were sealed."
# A special kind of fault before the kind that it is of.
_WORDS: dict[type[Exception], Callable[[Any], str]] = {
    StartError: str,
    AnotherRunError: str,
    SettingsError: lambda fault: "\n".join(fault.complaints),
    InvalidError: lambda fault: "\n".join(f"{field}: {message}" for field, message in fault.fields.items()),
    RequestError: lambda fault: fault.detail,
    DBAPIError: lambda fault: f"The database cannot be used: {str(fault.orig).splitlines()[0]}",
    VaultError: lambda _fault: _OTHER_KEY,
}
FAULTS = tuple(_WORDS)
"""What may keep a command from its work, and is not a fault of the program's."""


def in_words(fault: Exception) -> str:
    """One of FAULTS for an operator."""
    return next(words(fault) for kind, words in _WORDS.items() if isinstance(fault, kind))


def check_production(settings: Settings, command: str) -> None:
    """Raises one of FAULTS if `tidings web` or `tidings worker` could not work with these settings."""
    if settings.embedded:
        raise StartError(
            f"`tidings {command}` needs DATABASE_URL (PostgreSQL) and REDIS_URL; without them use `tidings up`."
        )
    with closing(Database(settings.database_url, pool_size=1)) as database:
        check_schema(database)
        with database.transaction(system(Purpose.MIGRATE), read_only=True) as session:
            sealed = session.execute(select(Tenant.webhook_secret).order_by(Tenant.id).limit(1)).scalar()
    if not sealed:
        raise StartError("The database has no tenant: run `tidings migrate` first.")
    Vault(settings.secret_key).open(sealed)


def check_schema(database: Database) -> None:
    """Raises StartError if this code cannot work with the database as it is."""
    if why := complaint(database):
        raise StartError(why)
