"""A private PostgreSQL with the two roles of production, so that row-level security binds the tests as it binds users.

`tidings_owner` owns the databases and runs the migrations; `tidings_app` is who the application connects as: an
ordinary role that owns nothing and may not pass by row-level security. Neither is a superuser.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.servers.process import ServerProcess, find_program, free_port, make_folder, start_with_retries

OWNER = "tidings_owner"
APP = "tidings_app"

_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

# Safe against a crash of PostgreSQL, not of the machine: no test looks at a database after that.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
# Or a template may be in use when it is to be copied, a table when it is to be locked; and plans change by chance.
_FAST |= {"autovacuum": "off"}
_ALWAYS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # In the folder rather than in /dev/shm, where a killed server would leave it.
    "dynamic_shared_memory_type": "mmap",
}

# Default privileges are copied with a template, so this runs only for databases made from nothing.
_PRIVILEGES: tuple[LiteralString, ...] = (
    "ALTER SCHEMA public OWNER TO tidings_owner",
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "GRANT USAGE ON SCHEMA public TO tidings_app",
    "ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner GRANT USAGE ON SCHEMAS TO tidings_app",
    "ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tidings_app",
    "ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner GRANT USAGE, SELECT ON SEQUENCES TO tidings_app",
    "ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner GRANT EXECUTE ON FUNCTIONS TO tidings_app",
)


@dataclass(frozen=True)
class Database:
    """One database: `owner_url` is for migrations, `app_url` for everything else."""

    name: str
    owner_url: str
    app_url: str


class PostgresServer:
    """A running PostgreSQL; `admin_url` is the superuser's: for looking behind the curtain, never for the product."""

    def __init__(self, process: ServerProcess, port: int) -> None:
        """Hold the server that `start_postgres` has started on `port` of 127.0.0.1."""
        self.process = process
        self.port = port
        self.admin_url = self.url_for("postgres", "postgres")

    def url_for(self, role: str, database: str) -> str:
        """Return the URL by which `role` connects to `database`."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> Database:
        """Create a database that `tidings_owner` owns, empty or as a copy of `template`.

        A copy takes some tens of milliseconds: migrate one database, and copy it for every test. Nobody may be
        connected to the template meanwhile (psycopg.errors.ObjectInUse after five seconds): dispose of its engine.
        """
        command = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template or "template0")
        )
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(command)
        if template is None:
            with psycopg.connect(self.url_for("postgres", name), autocommit=True) as connection:
                for statement in _PRIVILEGES:
                    connection.execute(statement)
        return Database(name, self.url_for(OWNER, name), self.url_for(APP, name))

    def drop_database(self, name: str) -> None:
        """Drop a database, if it is there, together with whoever is still connected to it."""
        command = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(command)

    def stop(self) -> None:
        """Stop the server without waiting for its clients, and remove its data."""
        self.process.stop(signal.SIGQUIT)


def start_postgres(durable: bool = False) -> PostgresServer:
    """Start a private PostgreSQL on a free port; it ends with this process at the latest.

    `durable` leaves fsync and its like as in production and puts the data on a disk: for benchmarks and chaos.
    Raises FileNotFoundError if PostgreSQL is not installed, StartError if it does not start.
    """
    initdb = find_program("initdb", "/usr/lib/postgresql/*/bin/initdb")
    folder = make_folder("postgres", durable)
    # postgres refuses to be root; Debian's package comes with this account.
    process = ServerProcess("postgres", folder, account="postgres")
    data = folder / "data"
    init = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    process.run(init, env=_ENV)
    try:
        return start_with_retries(lambda: _start(process, Path(initdb).with_name("postgres"), durable))
    except BaseException:
        process.stop(signal.SIGQUIT)
        raise


def _start(process: ServerProcess, program: Path, durable: bool) -> PostgresServer:
    server = PostgresServer(process, free_port())
    data = str(process.folder / "data")
    command = [str(program), "-D", data, "-p", str(server.port)]
    for name, value in (_ALWAYS if durable else _ALWAYS | _FAST).items():
        command += ["-c", f"{name}={value}"]
    # SIGQUIT lets it take its shared memory with it when we die; SIGKILL would not.
    process.start(command, env=_ENV, death_signal=signal.SIGQUIT)

    def is_ready() -> bool:
        try:
            with psycopg.connect(server.admin_url, autocommit=True, connect_timeout=2) as connection:
                return connection.execute("SHOW data_directory").fetchone() == (data,)
        except psycopg.OperationalError:
            return False

    process.wait_until(is_ready)
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE tidings_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS")
        connection.execute("CREATE ROLE tidings_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS")
    return server
