"""Write down what a version of the service says to its database, so that a later one can be held to it.

Run it in a checkout of the version that is in use, before the next migration, and keep what it writes:

    python -m tests.rolling.recorder tests/rolling/previous.json

It takes the whole service, in production's shape, through one day (`a_day`) and records each transaction that wrote or
read something. `replay` says what the file holds.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb, _JsonWrapper
from sqlalchemy import event

from app import create_app, make_runtime, schema
from app.config import Settings
from app.core.runtime import Runtime
from tests.rolling import a_day
from tests.servers.http import HttpReceiver
from tests.servers.postgres import start_postgres
from tests.servers.redis import start_redis
from tests.servers.smtp import SmtpServer
from tests.servers.twilio import TwilioServer

SECRET_KEY = "a secret key for tests only, 40 characters"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_PLUMBING = ("db.py", "rows.py", "paging.py")


class Recorder:
    """Statements with their parameters, one list for each transaction that commits, under the chapter of its time."""

    def __init__(self, runtime: Runtime, receiver: str) -> None:
        self._receiver = receiver
        self.started = datetime.now(UTC)
        self.statements: dict[str, str] = {}
        self.ids: dict[str, int] = {}
        self.chapters: dict[str, list[list[list[Any]]]] = {}
        self._names: dict[str, str] = {}
        self._open: dict[int, list[list[Any]]] = {}
        self._transactions: list[list[list[Any]]] = []
        engine = runtime.db.engine
        event.listen(engine, "begin", lambda connection: self._open.update({id(_raw(connection)): []}))
        event.listen(engine, "rollback", lambda connection: self._open.pop(id(_raw(connection)), None))
        event.listen(engine, "commit", self._commit)
        event.listen(engine, "after_cursor_execute", self._note)

    @contextmanager
    def chapter(self, name: str) -> Iterator[None]:
        """What is committed inside belongs to this chapter."""
        self._transactions = self.chapters[name] = []
        yield

    def as_json(self) -> str:
        """What `replay` reads: one transaction a line."""
        chapters = [
            f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {_line(one)}" for one in found) + "\n  ]"
            for name, found in self.chapters.items()
        ]
        statements = [f"  {json.dumps(name)}: {_line(text)}" for name, text in self.statements.items()]
        ids = ",\n".join(f"  {json.dumps(found)}" for found in self.ids)
        listed = (",\n".join(statements), ",\n".join(chapters))
        return '{{\n "ids": [\n{}\n ],\n "statements": {{\n{}\n }},\n "chapters": {{\n{}\n }}\n}}'.format(ids, *listed)

    def _note(self, connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        said = [self._plain(one) for one in parameters] if many else self._plain(parameters or {})
        self._open.setdefault(id(_raw(connection)), []).append([self._named(statement), said, cursor.rowcount])

    def _commit(self, connection: Any) -> None:
        found = self._open.pop(id(_raw(connection)), [])
        if any(not name.startswith("db.") for name, _, _ in found):
            self._transactions.append(found)

    def _named(self, statement: str) -> str:
        """The statement's name: the module and function that it comes from, and a number if there are several."""
        if statement not in self._names:
            frames = [
                frame
                for frame in traceback.extract_stack()
                if "/app/" in frame.filename or frame.filename.endswith("a_day.py")
            ]
            frame = next((one for one in reversed(frames) if not one.filename.endswith(_PLUMBING)), frames[-1])
            if "set_config" in statement:
                frame = frames[-1]
            path = Path(frame.filename)
            stem = f"{path.parent.name if path.stem == '__init__' else path.stem}.{frame.name}"
            taken = sum(name.partition("#")[0] == stem for name in self.statements)
            name = f"{stem}#{taken + 1}" if taken else stem
            self._names[statement], self.statements[name] = name, statement
        return self._names[statement]

    def _plain(self, value: Any) -> Any:
        """A parameter as JSON: ids by their number, times by the seconds since the recording began."""
        if isinstance(value, dict):
            return {key: self._plain(found) for key, found in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(found) for found in value]
        if isinstance(value, datetime):
            return {"$at": self._seconds(value)}
        if isinstance(value, _JsonWrapper):
            return {"$jsonb" if isinstance(value, Jsonb) else "$json": self._plain(json.dumps(value.obj))}
        if isinstance(value, str):
            value = value.replace(self._receiver, "${receiver}")
            numbered = _ID.sub(lambda found: f"${{id{self._number(found[0])}}}", value)
            return _TIME.sub(lambda found: f"${{at{self._seconds(_time(found[0]))}}}", numbered)
        return value

    def _number(self, found: str) -> int:
        return self.ids.setdefault(found, len(self.ids))

    def _seconds(self, moment: datetime) -> float:
        return round((moment - self.started).total_seconds(), 3)


def _raw(connection: Any) -> Any:
    return connection.connection.dbapi_connection


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def main() -> None:
    """Live through the day on private servers and write down what was said, into the file of the first argument."""
    with ExitStack() as stack:
        postgres, redis = start_postgres(), start_redis()
        stack.callback(postgres.stop)
        stack.callback(redis.stop)
        database = postgres.create_database("recorded")
        schema.upgrade(database.owner_url, database.app_url)
        smtp, twilio, receiver = (stack.enter_context(one) for one in (SmtpServer(), TwilioServer(), HttpReceiver()))
        settings = Settings(
            data_dir=Path(stack.enter_context(tempfile.TemporaryDirectory())),
            secret_key=SECRET_KEY,
            database_url=database.app_url,
            redis_url=redis.url,
            webhook_allowed_cidrs=("127.0.0.0/8",),
            public_url=a_day.PUBLIC_URL,
            email_host="127.0.0.1",
            email_port=smtp.port,
            twilio_account_sid=twilio.account_sid,
            twilio_auth_token=twilio.auth_token,
            twilio_phone_number="+15005550001",
            twilio_api_url=twilio.base_url,
        )
        runtime = make_runtime(settings)
        recorder = Recorder(runtime, receiver.url(""))
        a_day.live(runtime, create_app(runtime=runtime), recorder.chapter, smtp, twilio, receiver)
        runtime.channels.close()
        runtime.db.close()
        Path(sys.argv[1]).write_text(recorder.as_json() + "\n")


if __name__ == "__main__":
    main()
