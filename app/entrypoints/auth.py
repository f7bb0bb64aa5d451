"""Who is at the door: an API key or a person's token becomes a Caller with scopes.

`Authorization: Bearer tdg_live_…`, or basic auth with the key as the password, is a service of a tenant.
`Authorization: Bearer <JWT>` is a person of a tenant (core.keys.read_token).

Look-ups are remembered for at most five seconds, so that authenticating costs no query on most requests. A
revocation counts at once in the process that did it (`Authenticator.forget`), in others within those seconds.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

import structlog
from flask import Request
from sqlalchemy.exc import DBAPIError

from app.clock import Clock
from app.core import keys
from app.crypto import Vault, digest_of
from app.db import Database
from app.errors import ForbiddenError, UnauthorizedError
from app.models import ApiKey
from app.tenancy import Purpose, Scope, person, system, tenant

_REMEMBERED_SECONDS = 5.0
_MOST_REMEMBERED = 10_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `kind` is "service" (then `api_key_id` is set) or "person" (then `user_id` is set).

    `test`: the key is of kind test, and what it posts is marked so.
    """

    tenant_id: str
    kind: str
    user_id: str | None = None
    api_key_id: str | None = None
    scopes: frozenset[str] = frozenset()
    test: bool = False

    @property
    def scope(self) -> Scope:
        """What the caller's transactions may see."""
        return person(self.tenant_id, self.user_id) if self.user_id else tenant(self.tenant_id)

    @property
    def identity(self) -> str:
        """Whose rate limits these are."""
        return self.api_key_id or f"{self.tenant_id}/{self.user_id}"

    def may(self, resource: str, action: str) -> bool:
        """Whether the scopes allow `action` (read or write) on `resource`."""
        return "*" in self.scopes or f"{resource}:{action}" in self.scopes

    def require(self, resource: str, action: str) -> None:
        """Raises ForbiddenError unless `may`."""
        if not self.may(resource, action):
            raise ForbiddenError(f"This API key lacks the scope {resource}:{action}.", code="missing_scope")


@dataclass(frozen=True, slots=True)
class _Remembered:
    caller: Caller
    until: float
    expires_at: datetime | None


class Authenticator:
    """Turns credentials into Callers."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._db = database
        self._vault = vault
        self._clock = clock
        self._known: OrderedDict[str, _Remembered] = OrderedDict()
        self._lock = threading.Lock()
        self._generation = 0

    def remembered(self, credential: str) -> Caller | None:
        """Whose credential this is, if it was seen a moment ago. No query."""
        with self._lock:
            found = self._known.get(digest_of(credential))
        if found is None or found.until < time.monotonic():
            return None
        if found.expires_at is not None and found.expires_at <= self._clock.now():
            return None
        return found.caller

    def caller(self, credential: str) -> Caller:
        """Whose credential this is. Raises UnauthorizedError, which does not say what is wrong with it."""
        if known := self.remembered(credential):
            return known
        generation = self._generation
        caller, expires_at = self._service(credential) if credential.startswith("tdg_") else self._person(credential)
        self._remember(credential, _Remembered(caller, time.monotonic() + _REMEMBERED_SECONDS, expires_at), generation)
        return caller

    def _service(self, secret: str) -> tuple[Caller, datetime | None]:
        with self._db.transaction(system(Purpose.AUTHENTICATE), read_only=True) as session:
            key = keys.find_api_key(session, self._clock, secret)
        if key is None:
            raise UnauthorizedError("The API key is not valid.", code="invalid_api_key")
        if not keys.use_is_noted(self._clock, key):
            self._note_use(key)
        scopes, test = frozenset(key.scopes), key.kind == "test"
        return Caller(key.tenant_id, "service", api_key_id=key.id, scopes=scopes, test=test), key.expires_at

    def _note_use(self, key: ApiKey) -> None:
        try:
            with self._db.transaction(system(Purpose.AUTHENTICATE)) as session:
                keys.note_use(session, self._clock, key)
        except DBAPIError as error:  # nobody is turned away because a note could not be made
            log.warning("key_use_not_noted", error=type(error).__name__)

    def _person(self, token: str) -> tuple[Caller, datetime | None]:
        with self._db.transaction(system(Purpose.AUTHENTICATE), read_only=True) as session:
            tenant_id, user_id, expires_at = keys.read_token_until(session, self._vault, self._clock, token)
        return Caller(tenant_id, "person", user_id=user_id), expires_at

    def _remember(self, credential: str, found: _Remembered, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # a key was revoked while we looked: perhaps this one
            self._known[digest_of(credential)] = found
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)

    def forget(self) -> None:
        """A key was revoked: look everybody up again. Call it after the commit."""
        with self._lock:
            self._generation += 1
            self._known.clear()


def credential_of(request: Request) -> str:
    """What the request comes with: a bearer token or the password of basic auth. Raises UnauthorizedError."""
    given = request.authorization
    credential = None
    if given is not None and given.type == "bearer":
        credential = given.token
    elif given is not None and given.type == "basic":
        credential = given.password
    if not credential:
        raise UnauthorizedError("An API key or a person's token is needed in the Authorization header.")
    return credential
