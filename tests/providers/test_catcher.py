"""The catcher: what would have gone out can be read, and its directory stays small and closed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from providers.catcher import CatcherStore, CaughtMessage, EmailCatcher, SmsCatcher
from providers.contract import Accepted, Attachment, Channel, PermanentError, Provider, RetryableError
from tests.providers.messages import message, outcome, send

SENDER = "Tidings <no-reply@tidings.example>"


@pytest.fixture
def store(tmp_path: Path) -> CatcherStore:
    return CatcherStore(tmp_path / "outbox")


def caught(store: CatcherStore, **fields: Any) -> CaughtMessage:
    kept = CaughtMessage(id=store.new_id(), channel="sms", time="", delivery_id="d", sender="", to="", **fields)
    store.add(kept)
    return kept


def test_an_email_is_kept_as_a_person_would_get_it(store: CatcherStore) -> None:
    provider = EmailCatcher(store, SENDER)
    file = Attachment("a.pdf", b"12345", "application/pdf")

    result = outcome(
        provider,
        message(
            Channel.EMAIL,
            "Zoë <zoe@example.com>",
            subject="Hello 🎉",
            text="Hi",
            html="<p>Hi</p>",
            cc=("c@example.com",),
            bcc=("b@example.com",),
            attachments=(file,),
            headers={"X-Thing": "1"},
        ),
    )

    (kept,) = store.list()
    assert isinstance(provider, Provider)
    assert isinstance(result, Accepted)
    assert result.provider_id == kept.id
    assert (kept.channel, kept.to, kept.subject, kept.text, kept.html) == (
        *("email", "Zoë <zoe@example.com>", "Hello 🎉", "Hi", "<p>Hi</p>"),
    )
    assert (kept.sender, kept.cc, kept.bcc) == (SENDER, ("c@example.com",), ("b@example.com",))
    assert kept.attachments == ({"filename": "a.pdf", "contentType": "application/pdf", "size": 5},)
    assert kept.headers["X-Thing"] == "1"
    assert kept.headers["Message-ID"].endswith("@tidings.example>")
    assert store.get(kept.id) == kept


def test_an_sms_is_kept_with_its_segments(store: CatcherStore) -> None:
    outcome(SmsCatcher(store), message(Channel.SMS, "+14155550100", text="ж" * 71))

    (kept,) = store.list()
    assert (kept.channel, kept.to, kept.text) == ("sms", "+14155550100", "ж" * 71)
    assert kept.detail == {"segments": 2, "encoding": "UCS-2"}


def test_what_a_real_provider_would_refuse_is_refused(store: CatcherStore) -> None:
    email, sms = EmailCatcher(store, SENDER), SmsCatcher(store)

    refused = [
        outcome(email, message(Channel.EMAIL, "nobody")),
        outcome(email, message(Channel.EMAIL, "a@b.example", subject="a\r\nb")),
        outcome(sms, message(Channel.SMS, "123", text="x")),
        outcome(sms, message(Channel.SMS, "+14155550100")),
    ]

    assert all(isinstance(result, PermanentError) for result in refused)
    assert store.list() == []


def test_the_newest_come_first_and_in_pages(store: CatcherStore) -> None:
    ids = [caught(store).id for _ in range(7)]

    first = store.list(limit=3)
    second = store.list(limit=3, after=first[-1].id)
    third = store.list(limit=3, after=second[-1].id)

    assert [kept.id for kept in [*first, *second, *third]] == ids[::-1]


def test_only_the_newest_stay(tmp_path: Path) -> None:
    store = CatcherStore(tmp_path, keep=10)
    ids = [caught(store).id for _ in range(101)]

    assert [kept.id for kept in store.list(limit=1000)] == ids[:-11:-1]
    assert len(list(tmp_path.iterdir())) == 10


@pytest.mark.parametrize(
    "caught_id", ["", "..", "../secret", "/etc/passwd", "a\0b", "00000000000000000000-0000000g", "x" * 5000]
)
def test_no_id_leads_out_of_the_directory(tmp_path: Path, caught_id: str) -> None:
    (tmp_path / "secret.json").write_text("{}")

    assert CatcherStore(tmp_path / "outbox").get(caught_id) is None


def test_a_broken_or_foreign_file_harms_no_list(store: CatcherStore, tmp_path: Path) -> None:
    kept = caught(store)
    directory = tmp_path / "outbox"
    (directory / f"{store.new_id()}.json").write_text('{"id": ')
    (directory / f"{store.new_id()}.json").write_text("[]")
    (directory / f"{store.new_id()}.json").write_text('{"id": 1, "cc": [], "bcc": [], "attachments": []}')
    (directory / f"{store.new_id()}.part").write_text("")
    (directory / "notes.txt").write_text("")

    assert store.list() == [kept]


def test_nothing_caught_yet_is_an_empty_list(tmp_path: Path) -> None:
    assert CatcherStore(tmp_path / "missing").list() == []


def test_a_directory_that_takes_nothing_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    provider = SmsCatcher(CatcherStore(tmp_path / "file" / "outbox"))

    result = outcome(provider, message(Channel.SMS, "+14155550100", text="x"))

    assert isinstance(result, RetryableError)
    assert (result.code, result.loud) == ("storage_failed", True)


def test_a_full_disk_is_tried_again_and_leaves_no_piece(tmp_path: Path) -> None:
    store = CatcherStore(tmp_path)
    kept = CaughtMessage(store.new_id(), "sms", "", "d", "", "")
    (tmp_path / f"{kept.id}.part").symlink_to("/dev/full")  # the kernel's own full disk

    with pytest.raises(RetryableError) as refused:
        store.add(kept)

    assert refused.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_many_threads_write_and_read_at_once(store: CatcherStore) -> None:
    provider = SmsCatcher(store)
    one = message(Channel.SMS, "+14155550100", text="x")

    def work() -> None:
        for _ in range(40):
            assert isinstance(outcome(provider, one), Accepted)
            assert store.list(limit=5)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.list(limit=1000)) == 240


def test_what_is_kept_is_plain_json(store: CatcherStore, tmp_path: Path) -> None:
    kept = caught(store, text="\ud800 lone")

    assert json.loads((tmp_path / "outbox" / f"{kept.id}.json").read_text())["text"] == "\ud800 lone"


def test_nothing_is_caught_after_the_deadline(store: CatcherStore) -> None:
    provider = SmsCatcher(store)

    assert send(provider, message(Channel.SMS, "+14155550100", text="x"), seconds=-1) == []
    assert store.list() == []
