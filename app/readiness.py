"""Whether this process could work: which part it needs is down, if any."""

from __future__ import annotations

import structlog
from dramatiq import Broker
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from app.broker import WakingBroker
from app.db import Database
from app.patience import Asking
from app.standing import standing

OK = "ok"
_SECONDS = 1.0
_DATABASE_SECONDS = 3.0  # less than the probes of deploy/ wait

log = structlog.get_logger()


class Readiness:
    """Asks the parts of the service that a process works with."""

    def __init__(self, db: Database, broker: Broker) -> None:
        self._db = db
        self._redis = _asking(broker.url) if isinstance(broker, WakingBroker) else None
        self._migrated = False
        self._asking = Asking(self._database)

    def parts(self) -> dict[str, str]:
        """{part: "ok", or what is the matter}: database, schema and, where there is one, redis."""
        found = self._soon()
        if self._redis:
            found["redis"] = _answer(self._redis)
        return found

    def _soon(self) -> dict[str, str]:
        """What `_database` finds, if it is soon: a database that hangs must not hold up the answer that it does."""
        try:
            return dict(self._asking.answer(_DATABASE_SECONDS))
        except TimeoutError:
            log.warning("database_not_ready", error="no answer")
            return {"database": "unreachable"}

    def _database(self) -> dict[str, str]:
        try:
            if self._migrated:  # reading the migrations again each time would cost more than the ping
                self._db.ping()
                return {"database": OK, "schema": OK}
            found = standing(self._db)
        except SQLAlchemyError as error:
            log.warning("database_not_ready", error=type(error).__name__)
            return {"database": "unreachable"}
        # Newer: a later version was rolled out while this process runs. Migrations only add, so it may go on; a process
        # that starts now is refused.
        self._migrated = found in ("current", "newer")
        return {"database": OK, "schema": OK if self._migrated else found}


def verdict(parts: dict[str, str]) -> str:
    """ok, degraded (something is down that can be done without), or down."""
    if any(parts.get(name, OK) != OK for name in ("database", "schema")):
        return "down"
    return OK if all(state == OK for state in parts.values()) else "degraded"


def _asking(url: str) -> Redis:
    """A client that gives up after a second: a Redis that hangs must not hold up the answer that all else is well."""
    never = Retry(NoBackoff(), 0)
    return Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, retry=never)


def _answer(client: Redis) -> str:
    try:
        client.ping()
    except (RedisError, OSError):
        return "unreachable"
    return OK
