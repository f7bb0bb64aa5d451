"""In-app notifications: stored is delivered, and one bad message harms only itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from providers.contract import (
    Accepted,
    Channel,
    DeliveryStatus,
    OutboundMessage,
    PermanentError,
    Provider,
    RetryableError,
)
from providers.in_app.inbox import InApp
from tests.providers.messages import message, send


def note(number: int) -> Any:
    return message(Channel.IN_APP, f"user-{number}", delivery_id=f"d{number}")


class Shelf:
    """Keeps what it is given; refuses a batch that holds one of `bad`."""

    def __init__(self, error: Exception | None = None, bad: Sequence[str] = ()) -> None:
        self.kept: list[OutboundMessage] = []
        self.calls: list[int] = []
        self.error, self.bad = error, bad

    def __call__(self, batch: Sequence[OutboundMessage]) -> None:
        self.calls.append(len(batch))
        if self.error is not None and (not self.bad or any(one.to in self.bad for one in batch)):
            raise self.error
        self.kept.extend(batch)


def test_a_batch_is_stored_in_one_go_and_delivered() -> None:
    shelf = Shelf()
    provider = InApp(shelf)
    messages = [note(number) for number in range(250)]

    results = list(provider.send_batch(messages, float("inf")))

    assert isinstance(provider, Provider)
    assert shelf.calls == [100, 100, 50]
    assert [result.message for result in results] == messages == shelf.kept
    assert {getattr(result.outcome, "status", None) for result in results} == {DeliveryStatus.DELIVERED}


def test_one_that_cannot_be_stored_harms_only_itself() -> None:
    shelf = Shelf(ValueError("secret detail"), bad=["user-1"])

    results = send(InApp(shelf), *(note(number) for number in range(3)))

    assert [isinstance(result.outcome, Accepted) for result in results] == [True, False, True]
    failed = results[1].outcome
    assert isinstance(failed, RetryableError)
    assert failed.code == "store_failed"
    assert "secret detail" not in str(failed)
    assert isinstance(failed.__cause__, ValueError)


@pytest.mark.parametrize(("error", "calls"), [(RetryableError("locked"), 1), (PermanentError("no_person"), 4)])
def test_the_stores_own_judgement_stands(error: Exception, calls: int) -> None:
    shelf = Shelf(error)

    results = send(InApp(shelf), *(note(number) for number in range(3)))

    assert [result.outcome for result in results] == [error] * 3
    assert len(shelf.calls) == calls


def test_nothing_is_stored_after_the_deadline() -> None:
    shelf = Shelf()

    assert send(InApp(shelf), note(1), seconds=-1) == []
    assert shelf.calls == []
