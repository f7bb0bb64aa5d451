"""What is looked at before a process starts, and in which words an operator hears why it does not."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app.config import Settings, SettingsError
from app.crypto import Vault, VaultError
from app.db import Database
from app.errors import InvalidError, RequestError
from app.models import Tenant
from app.standing import complaint
from app.tenancy import Purpose, system

FAULTS = (SettingsError, InvalidError, RequestError, DBAPIError, VaultError)
"""What may keep a process from starting, and is not a fault of the program's."""


class StartError(RequestError):
    """A process cannot start as things stand."""


def in_words(fault: Exception) -> str:
    """One of FAULTS for an operator."""
    match fault:
        case SettingsError():
            return "\n".join(fault.complaints)
        case InvalidError():
            return "\n".join(f"{field}: {message}" for field, message in fault.fields.items())
        case RequestError():
            return fault.detail
        case DBAPIError():
            return f"The database cannot be used: {str(fault.orig).splitlines()[0]}"
    return "SECRET_KEY: is not the one with which this database's secrets were sealed."


def check_production(settings: Settings, command: str) -> None:
    """Raises one of FAULTS if `tidings web` or `tidings worker` could not work with these settings."""
    if settings.embedded:
        raise StartError(
            f"`tidings {command}` needs DATABASE_URL (PostgreSQL) and REDIS_URL; without them use `tidings up`."
        )
    database = Database(settings.database_url, pool_size=1)
    check_schema(database)
    with database.transaction(system(Purpose.MIGRATE), read_only=True) as session:
        sealed = session.execute(select(Tenant.webhook_secret).order_by(Tenant.id).limit(1)).scalar()
    if not sealed:
        raise StartError("The database has no tenant: run `tidings migrate` first.")
    Vault(settings.secret_key).open(sealed)
    database.close()


def check_schema(database: Database) -> None:
    """Raises StartError if this code cannot work with the database as it is."""
    if why := complaint(database):
        raise StartError(why)
