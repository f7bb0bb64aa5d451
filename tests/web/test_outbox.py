"""The catcher's pages: the list, one message, and the news."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from app.config import Settings
from app.core.channels import catcher_store
from providers.contract import Attachment
from tests.conftest import wait_until
from tests.web.caught import UNKNOWN, assert_unknown_page, kept
from tests.web.conftest import Catch

NO_IDS = (
    UNKNOWN,
    "..%2f..%2fetc%2fpasswd",
    "../../etc/passwd",
    "%00",
    "x" * 5_000,
    "..",
    "%2e%2e",
    UNKNOWN + ".json",
    UNKNOWN + "%0a",
    "messages/html",
    "%ff%fe",
    "٠" * 20 + "-00000000",
)
NO_CURSORS = ("x", "../../etc", UNKNOWN + "0", "1' OR '1'='1", "\x00", "٠" * 20 + "-00000000")


class TestTheList:
    def test_an_empty_one_says_what_to_do(self, client: Any, settings: Settings) -> None:
        page = client.get("/dev/outbox").text

        assert "Nothing here yet" in page
        assert f"curl {settings.base_url}/api/events" in page

    def test_the_newest_is_first(self, client: Any, catch_email: Catch, catch_sms: Catch) -> None:
        catch_email(subject="The first", text="one")
        catch_sms("The second")

        page = client.get("/dev/outbox").text

        assert page.index("The second") < page.index("The first")
        assert "+15005550006" in page
        assert "ada@example.com" in page

    def test_a_thousand_messages_are_paged_and_each_is_seen_once(self, client: Any, settings: Settings) -> None:
        store = catcher_store(settings)
        for number in range(1_000):
            store.add(kept(number))

        seen, page, rounds = [], client.get("/dev/outbox").text, 1
        while True:
            seen += [part.split('"', 1)[0] for part in page.split('<li data-id="')[1:] if part[0] != '"']
            if ">Older</a>" not in page:
                break
            older = page.split('">Older</a>')[0].rsplit('href="', 1)[1]
            page, rounds = client.get(older).text, rounds + 1

        assert seen == [kept(number).id for number in reversed(range(1_000))]
        assert rounds == 20

    def test_it_says_what_is_caught(self, client: Any) -> None:
        assert "Email and SMS that would have gone out" in client.get("/dev/outbox").text

    class TestWithAnSmtpServer:
        @pytest.fixture
        def make_settings(self) -> Callable[..., Settings]:
            return lambda **values: Settings(**values, email_host="smtp.example.com")

        def test_what_goes_out_for_real_is_not_called_caught(self, client: Any) -> None:
            page = client.get("/dev/outbox").text

            assert "SMS that would have gone out" in page
            assert "Email and" not in page

    @pytest.mark.parametrize("cursor", NO_CURSORS)
    def test_a_cursor_that_is_none_is_refused_by_name(self, client: Any, cursor: str) -> None:
        for path, name in (("/dev/outbox", "after"), ("/dev/outbox/messages", "since")):
            answer = client.get(path, query_string={name: cursor})

            assert answer.status_code == 422
            assert answer.json["errors"][0]["field"] == name


class TestOneMessage:
    def test_an_email_is_shown_with_all_its_parts(self, client: Any, catch_email: Catch) -> None:
        caught = catch_email(
            subject="Your order",
            text="Thank you. https://shop.example/text",
            html='<p>Thank you.</p><a href="https://shop.example/html">View it</a>',
            cc=("bob@example.com",),
            bcc=("eve@example.com",),
            headers={"X-Order": "A-1001"},
            attachments=(Attachment("invoice.pdf", b"12345", "application/pdf"),),
        )
        wanted = {
            "html": ("Your order", "bob@example.com", "eve@example.com", f"/dev/outbox/{caught}/html", "sandbox="),
            "text": ("Thank you. https://shop.example/text",),
            "headers": ("X-Order", "A-1001", "Message-ID"),
            "links": ("View it", 'href="https://shop.example/html"', 'href="https://shop.example/text"', "noopener"),
            "files": ("invoice.pdf", "application/pdf", "5 Bytes"),
            "source": ("&lt;p&gt;Thank you.&lt;/p&gt;",),
        }

        for view, words in wanted.items():
            page = client.get(f"/dev/outbox/{caught}?view={view}")
            assert page.status_code == 200
            for word in words:
                assert word in page.text, (view, word)

    def test_an_sms_is_a_bubble_with_its_segments(self, client: Any, catch_sms: Catch) -> None:
        page = client.get(f"/dev/outbox/{catch_sms('Grüße 🎉 ' * 10)}").text

        assert 'class="bubble"' in page
        assert "2 segments, UCS-2" in page

    @pytest.mark.parametrize("view", ["nothing", "html", "files", "<script>", ""])
    def test_a_view_that_is_not_there_falls_back_to_one_that_is(
        self, client: Any, catch_email: Catch, view: str
    ) -> None:
        caught = catch_email(subject="S", text="Only text")

        page = client.get(f"/dev/outbox/{caught}", query_string={"view": view}).text

        assert "Only text" in page
        assert "<iframe" not in page
        assert "<script>" not in page

    @pytest.mark.parametrize("path", NO_IDS)
    def test_an_id_that_is_none_is_an_unknown_page(self, client: Any, path: str) -> None:
        for end in ("", "/html"):
            assert_unknown_page(client, client.get(f"/dev/outbox/{path}{end}"))


class TestNews:
    def test_what_came_since_is_given_newest_first(self, client: Any, settings: Settings) -> None:
        store = catcher_store(settings)
        for second in range(0, 60, 10):
            store.add(kept(second * 10**9))

        answer = client.get("/dev/outbox/messages", query_string={"since": kept(30 * 10**9).id})

        assert [item["id"] for item in answer.json["items"]] == [kept(s * 10**9).id for s in (50, 40, 30)]
        assert answer.json["nextCursor"] == ""
        assert answer.headers["Cache-Control"] == "no-store"

    def test_one_that_was_written_late_is_not_missed(self, client: Any, settings: Settings) -> None:
        store = catcher_store(settings)
        store.add(kept(10 * 10**9))
        newest = kept(10 * 10**9).id
        store.add(kept(10 * 10**9 - 5_000_000))  # made 5 ms earlier, there only now

        answer = client.get("/dev/outbox/messages", query_string={"since": newest})

        assert kept(10 * 10**9 - 5_000_000).id in [item["id"] for item in answer.json["items"]]

    def test_a_flood_is_given_in_pages(self, client: Any, settings: Settings) -> None:
        store = catcher_store(settings)
        for number in range(130):
            store.add(kept(number * 10**9))

        seen, after = [], ""
        while True:
            answer = client.get("/dev/outbox/messages", query_string={"since": kept(9 * 10**9).id, "after": after}).json
            seen += [item["id"] for item in answer["items"]]
            after = answer["nextCursor"]
            if not after:
                break

        assert len(seen) == len(set(seen))
        assert set(seen) >= {kept(number * 10**9).id for number in range(10, 130)}

    def test_with_no_folder_at_all_there_is_nothing(self, client: Any, settings: Settings) -> None:
        shutil.rmtree(settings.data_dir / "outbox", ignore_errors=True)

        assert client.get("/dev/outbox/messages").json == {"items": [], "nextCursor": ""}


def test_an_event_ends_up_in_the_catcher(client: Any, auth: dict[str, str], worker: Any) -> None:
    person = {"userId": "ada", "name": "Ada", "email": "ada@example.com", "phone": "+15005550006"}
    event = {"eventType": "order.created", "recipients": [person], "data": {"orderId": "A-1001"}}

    assert client.post("/api/events", json=event, headers=auth).status_code == 202

    caught = wait_until(lambda: _two(client.get("/dev/outbox/messages").json["items"]))
    assert {item["channel"] for item in caught} == {"email", "sms"}
    assert all("order" in (item["subject"] + item["preview"]) for item in caught)


def _two(items: list[Any]) -> list[Any]:
    return items if len(items) == 2 else []
