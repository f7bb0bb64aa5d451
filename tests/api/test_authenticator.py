"""What the authenticator remembers, and how soon it forgets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from app.core import keys
from app.core.runtime import Runtime
from app.entrypoints.auth import Authenticator
from app.errors import UnauthorizedError
from app.tenancy import tenant


@pytest.fixture
def made(runtime: Runtime, tenant_id: str) -> tuple[str, str]:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        key, plain = keys.create_api_key(session, runtime.clock, tenant_id, name="x", scopes=["events:read"])
        return key.id, plain


def revoke(runtime: Runtime, tenant_id: str, key_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        keys.revoke_api_key(session, runtime.clock, tenant_id, key_id)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The monotonic clock, moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


def test_another_process_forgets_a_revoked_key_within_five_seconds(
    runtime: Runtime, tenant_id: str, made: tuple[str, str], seconds: list[float]
) -> None:
    key_id, plain = made
    here, there = (Authenticator(runtime.db, runtime.vault, runtime.clock) for _ in range(2))
    assert here.caller(plain) == there.caller(plain)

    revoke(runtime, tenant_id, key_id)
    here.forget()

    with pytest.raises(UnauthorizedError):
        here.caller(plain)
    assert there.caller(plain).api_key_id == key_id
    seconds[0] += 5.1
    with pytest.raises(UnauthorizedError):
        there.caller(plain)


def test_a_look_up_that_a_revocation_overtook_is_not_remembered(
    runtime: Runtime, tenant_id: str, made: tuple[str, str]
) -> None:
    class Overtaken(Authenticator):
        """A key is revoked between the look-up and the remembering."""

        def _remember(self, *args: object) -> None:
            self.forget()
            super()._remember(*args)  # type: ignore[arg-type]

    slow = Overtaken(runtime.db, runtime.vault, runtime.clock)

    slow.caller(made[1])

    assert slow.remembered(made[1]) is None


def test_a_caller_knows_its_scopes(runtime: Runtime, made: tuple[str, str]) -> None:
    caller = Authenticator(runtime.db, runtime.vault, runtime.clock).caller(made[1])

    assert caller.may("events", "read")
    assert not caller.may("events", "write")
    assert not caller.may("keys", "read")
    assert (caller.kind, caller.test, caller.user_id) == ("service", False, None)
