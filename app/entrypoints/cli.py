"""`tidings up | web | worker | migrate | backup | keys | token | listen | send | event`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click
from alembic.util import CommandError
from sqlalchemy import select

from app import schema
from app.clock import Clock
from app.config import LANES, Settings, SettingsError
from app.config_values import lanes as parse_lanes
from app.core import keys, retention
from app.crypto import Vault
from app.db import Database
from app.entrypoints import commands
from app.logs import configure_logs
from app.models import SigningKey, Tenant
from app.running import embedded
from app.running.backup import back_up
from app.running.server import become_server, check_port
from app.running.start import FAULTS, check_production, check_schema, in_words
from app.running.worker import become_supervisor
from app.standing import complaint, revisions, standing
from app.tenancy import Purpose, system, tenant

DEFAULT_URL = "http://127.0.0.1:8000"


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(1)


def _load() -> Settings:
    """The settings, complete with what the embedded shape adds; wrong ones end the program with all complaints."""
    try:
        settings = embedded.prepare(Settings.from_env(os.environ, Path(".env")))
    except SettingsError as error:
        _fail("These settings are wrong:\n" + "\n".join(f"  {complaint}" for complaint in error.complaints))
    configure_logs(settings)
    return settings


def _guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Faults of the request or the database as one line, never as a stack trace."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except FAULTS as error:
            _fail(in_words(error))
        except CommandError as error:
            _fail(f"The database cannot be migrated: {error}")

    return guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Tidings: post an event, the right messages go out, every delivery is on record."""


@main.command()
@_guarded
def up() -> None:
    """Start everything in one process: web, worker and sweeps. Migrates and seeds first."""
    settings = _load()
    held = embedded.lock(settings.data_dir) if settings.embedded else None
    check_port(settings)
    _migrate(settings)
    made = _bootstrap(settings)
    _greet(settings, made)
    if held:
        os.set_inheritable(held.fileno(), True)  # the lock lives as long as the server does
    become_server(settings, with_worker=True)


@main.command()
@_guarded
def web() -> None:
    """Start the web processes (production; needs PostgreSQL and Redis)."""
    settings = _production("web")
    check_port(settings)
    become_server(settings, with_worker=False)


@main.command()
@click.option(
    "--lanes",
    metavar="LANE=THREADS,…",
    help="Threads by lane of each process, instead of WORKER_LANES; a lane left out is not served.",
)
@_guarded
def worker(lanes: str | None) -> None:
    """Start the worker processes and watch over them (production; needs PostgreSQL and Redis).

    Lanes are transactional, normal and bulk: `tidings worker --lanes transactional=2,normal=4,bulk=2`.
    """
    if lanes is not None:  # nothing between quotes is a mistake, perhaps a variable that is not set
        _check_lanes(lanes)
    become_supervisor(_production("worker"), lanes or "")


@main.command()
@click.option("--down", metavar="REVISION", help="Go back to a revision, or to `base`.")
@click.option("--yes", is_flag=True, help="Do not ask before going back.")
@click.option("--maintain", is_flag=True, help="Only make the coming months' partitions and drop old ones.")
@click.option("--dry-run", is_flag=True, help="With --maintain: say what would be done, and do nothing.")
@_guarded
def migrate(down: str | None, yes: bool, maintain: bool, dry_run: bool) -> None:
    """Bring the database up to date, as its owner, and make what a new installation needs."""
    settings = _load()
    if maintain or dry_run:
        _maintain(settings, dry_run)
        return
    held = embedded.lock(settings.data_dir) if settings.embedded else None
    if down:
        _refuse_newer(settings)
        if down not in (known := ["base", *revisions()]):
            _fail(f"--down: there is no revision {down!r}. There are: {', '.join(known)}.")
        if not yes:
            click.confirm(f"Go back to {down}? What the newer tables hold is lost", abort=True)
        schema.downgrade(_owner_url(settings), down)
        click.echo(f"The database is back at {down}.")
    else:
        _migrate(settings)
        made = _bootstrap(settings)
        if made and not settings.bootstrap_api_key:
            click.echo(f"API key (shown once): {made}")
        click.echo("The database is up to date.")
    del held


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_guarded
def backup(folder: Path) -> None:
    """Copy the embedded database and its key into FOLDER, while the service runs."""
    settings = _load()
    if not settings.embedded:
        _fail("The database is PostgreSQL: back it up by its own means, and keep SECRET_KEY. See docs/operations.md.")
    for path in back_up(settings, folder):
        click.echo(path)


@main.group("keys")
def keys_group() -> None:
    """Make API keys on the machine itself."""


@keys_group.command("create")
@click.option("--name", default="made by hand", show_default=True)
@click.option("--test", is_flag=True, help="A test key: everything is planned, nothing is sent.")
@click.option("--scope", "scopes", multiple=True, default=["*"], show_default=True)
@_guarded
def keys_create(name: str, test: bool, scopes: tuple[str, ...]) -> None:
    """Make an API key and print it once."""
    settings = _load()
    db = Database(settings.database_url, pool_size=1)
    tenant_id = _first_tenant(db)
    with db.transaction(tenant(tenant_id)) as session:
        kind = "test" if test else "live"
        _, plain = keys.create_api_key(session, Clock(), tenant_id, name=name, kind=kind, scopes=scopes)
    click.echo(plain)


@main.command()
@click.option("--user", required=True, help="The person's user id.")
@click.option("--hours", default=1.0, show_default=True, type=click.FloatRange(0.01, 24))
@_guarded
def token(user: str, hours: float) -> None:
    """Make a token with which a person may call /api/notifications."""
    settings = _load()
    db, vault, clock = Database(settings.database_url, pool_size=1), Vault(settings.secret_key), Clock()
    tenant_id = _first_tenant(db)
    with db.transaction(tenant(tenant_id)) as session:
        usable = select(SigningKey).where(
            SigningKey.tenant_id == tenant_id, SigningKey.algorithm == "HS256", SigningKey.revoked_at.is_(None)
        )
        key = session.execute(usable.order_by(SigningKey.id).limit(1)).scalar()
        if key is None:
            _fail("There is no HS256 signing key; make one with POST /api/signing-keys.")
        click.echo(keys.make_token(vault, key, user, clock, hours))


main.add_command(commands.listen)
main.add_command(commands.send)
main.add_command(commands.event)


def _check_lanes(given: str) -> None:
    try:
        parse_lanes(*LANES)(given)
    except ValueError as error:
        _fail(f"--lanes: {given!r} {error}")


def _production(command: str) -> Settings:
    settings = _load()
    check_production(settings, command)
    return settings


def _owner_url(settings: Settings) -> str:
    return settings.migration_database_url or settings.database_url


def _migrate(settings: Settings) -> None:
    _refuse_newer(settings)
    schema.upgrade(_owner_url(settings), settings.database_url)


def _refuse_newer(settings: Settings) -> None:
    database = Database(_owner_url(settings), pool_size=1)
    newer = complaint(database) if standing(database) == "newer" else ""
    database.close()
    if newer:
        _fail(newer)


def _maintain(settings: Settings, dry_run: bool) -> None:
    """Exit status 1: something was in use, and is left for the next run; or another run is at it."""
    if settings.embedded:
        click.echo("The embedded database has no partitions. Nothing to do: the running service removes what is old.")
        return
    database = Database(_owner_url(settings), pool_size=1)
    check_schema(database)
    database.close()
    left, done = False, 0
    for step in schema.maintain(_owner_url(settings), settings.database_url, retention.days(settings), dry_run=dry_run):
        click.echo(f"{'would ' if dry_run and not step.kept else ''}{step}")
        left, done = left or step.left, done + (not step.kept)
    click.echo(f"{done} steps {'to do' if dry_run else 'done'}.")
    if left:
        sys.exit(1)


def _bootstrap(settings: Settings) -> str | None:
    db = Database(settings.database_url, pool_size=1)
    with db.transaction(system(Purpose.MIGRATE)) as session:
        vault = Vault(settings.secret_key)
        wanted = settings.bootstrap_api_key or None
        owner, made = keys.bootstrap(session, vault, Clock(), api_key_secret=wanted, tenant_name=settings.tenant_name)
        vault.open(owner.webhook_secret)
    db.close()
    return made


def _first_tenant(db: Database) -> str:
    check_schema(db)
    with db.transaction(system(Purpose.MIGRATE), read_only=True) as session:
        found = session.execute(select(Tenant.id).order_by(Tenant.id).limit(1)).scalar()
    if found is None:
        _fail("The database is empty: run `tidings migrate` or `tidings up` first.")
    return found


def _greet(settings: Settings, made: str | None) -> None:
    url = settings.base_url
    auth = '-H "Authorization: Bearer $TIDINGS_API_KEY"'
    lines = [f"Tidings is at {url}", ""]
    if made and not settings.bootstrap_api_key:
        lines += ["Your API key, shown this once:", f"  export TIDINGS_API_KEY={made}", ""]
    elif not settings.bootstrap_api_key:
        lines += ["Your API key was shown at the first start; `tidings keys create` makes another.", ""]
    event = (
        '{"eventType": "order.created", "recipients": [{"userId": "ada", "name": "Ada", "email": "ada@example.com",'
        ' "phone": "+15005550006"}], "data": {"orderId": "A-1001", "total": 49.9, "currency": "EUR"}}'
    )
    lines += [
        "Try:",
        f"  .venv/bin/tidings listen{'' if url == DEFAULT_URL else f' --url {url}'}",
        f"  curl {url}/api/events {auth} -H 'Content-Type: application/json' -d '{event}'",
        f"  curl '{url}/api/deliveries' {auth}",
        "",
    ]
    if settings.catches:
        lines += [f"What would have gone out by email and SMS: {url}/dev/outbox", ""]
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
