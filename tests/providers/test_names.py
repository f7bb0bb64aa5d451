"""Names to addresses: remembered, asked for once, and bounded."""

from __future__ import annotations

import threading

import pytest

from providers import names
from providers.names import Names


class Asked:
    """Keeps what it was told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, ...]] = []
        self._told = threading.Semaphore(0)

    def __call__(self, answer: tuple[str, ...]) -> None:
        self.answers.append(answer)
        self._told.release()

    def wait(self, count: int) -> list[tuple[str, ...]]:
        for _ in range(count):
            assert self._told.acquire(timeout=10)
        return self.answers


def test_an_answer_is_remembered() -> None:
    known, asked = Names(lambda _host, _port: ["8.8.8.8", "1.1.1.1"]), Asked()
    assert known.recall("a.example", 80) is None

    known.look_up("a.example", 80, asked)

    assert asked.wait(1) == [("8.8.8.8", "1.1.1.1")]
    assert known.recall("a.example", 80) == ("8.8.8.8", "1.1.1.1")
    assert known.recall("a.example", 81) is None


def test_a_name_without_addresses_is_an_answer_too() -> None:
    def nothing(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    known, asked = Names(nothing), Asked()
    known.look_up("a.example", 80, asked)

    assert asked.wait(1) == [()]
    assert known.recall("a.example", 80) == ()


def test_an_answer_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    known, asked = Names(lambda _host, _port: ["8.8.8.8"]), Asked()
    known.look_up("a.example", 80, asked)
    asked.wait(1)
    later = names.time.monotonic() + names.KEEP_S + 1

    monkeypatch.setattr("providers.names.time.monotonic", lambda: later)

    assert known.recall("a.example", 80) is None


def test_many_who_ask_at_once_cost_one_question() -> None:
    release, questions, asked = threading.Event(), [], Asked()

    def slow(host: str, _port: int) -> list[str]:
        questions.append(host)
        release.wait(10)
        return ["8.8.8.8"]

    known = Names(slow)
    for _ in range(20):
        known.look_up("a.example", 80, asked)
    release.set()

    assert asked.wait(20) == [("8.8.8.8",)] * 20
    assert questions == ["a.example"]


def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.names._MAX_LOOKUPS", 3)
    release, asked = threading.Event(), Asked()

    def slow(_host: str, _port: int) -> list[str]:
        release.wait(10)
        return ["8.8.8.8"]

    known = Names(slow)
    for number in range(5):
        known.look_up(f"{number}.example", 80, asked)

    assert asked.wait(2) == [(), ()]
    release.set()
    assert asked.wait(3)[2:] == [("8.8.8.8",)] * 3


def test_a_resolver_with_a_bug_answers_nothing_and_holds_up_nobody() -> None:
    def bug(_host: str, _port: int) -> list[str]:
        raise UnicodeError("label too long")

    known, asked = Names(bug), Asked()
    known.look_up("a.example", 80, asked)

    assert asked.wait(1) == [()]
