"""The catcher's pages: who may look, and what they are shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from app.config import Settings
from app.core.channels import catcher_store
from providers.catcher import CaughtMessage
from providers.contract import Attachment
from tests.conftest import wait_until
from tests.web.conftest import Catch

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}'
UNKNOWN = "00000000000000000001-00000000"
OTHER_HOSTS = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:8000",
    "127.0.0.1.nip.io",
    "127.0.0.2",
    "127.1",
    "0.0.0.0",
    "[::]",
    "::1",
    "localhost:",
    "localhost:8000:1",
    "localhost@evil.example",
    "localhost,evil",
    "",
)
FORWARDING = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "x-forwarded-anything",
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-Client-IP",
    "X-Original-Host",
)
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


class TestWhoMayLook:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535"]
    )
    def test_a_browser_that_names_this_machine_is_let_in(self, client: Any, host: str) -> None:
        assert client.get("/dev/outbox", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("host", OTHER_HOSTS)
    def test_any_other_name_finds_an_unknown_page(self, client: Any, host: str) -> None:
        for path in ("/dev/outbox", "/dev/outbox/messages", f"/dev/outbox/{UNKNOWN}/html", "/dev/x"):
            assert_unknown_page(client, client.get(path, headers={"Host": host}))

    @pytest.mark.parametrize("header", FORWARDING)
    def test_what_came_through_a_proxy_finds_an_unknown_page(self, client: Any, header: str) -> None:
        answer = client.get("/dev/outbox", headers={header: ""})

        assert_unknown_page(client, answer)

    def test_a_proxy_that_leaves_no_trace_but_its_old_protocol_finds_an_unknown_page(self, client: Any) -> None:
        answer = client.get("/dev/outbox", environ_overrides={"SERVER_PROTOCOL": "HTTP/1.0"})

        assert_unknown_page(client, answer)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
    def test_no_method_gives_away_that_there_is_something(self, client: Any, method: str) -> None:
        for path in ("/dev/outbox", "/dev/nothing"):
            assert client.open(path, method=method, headers={"Host": "evil.example"}).status_code == 404

    @pytest.mark.parametrize("shape", ["production"])
    def test_in_production_there_is_nothing(self, client: Any, settings: Settings) -> None:
        catcher_store(settings).add(kept())

        for path in ("/dev/outbox", "/dev/outbox/", "/dev/outbox/messages", f"/dev/outbox/{kept().id}"):
            assert_unknown_page(client, client.get(path))

    class TestBoundToTheNetwork:
        @pytest.fixture
        def make_settings(self) -> Callable[..., Settings]:
            return lambda **values: Settings(**values, host="0.0.0.0")

        def test_there_is_nothing(self, client: Any) -> None:
            assert_unknown_page(client, client.get("/dev/outbox"))


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

    def test_what_goes_out_for_real_is_not_called_caught(self, client: Any) -> None:
        assert "Email and SMS that would have gone out" in client.get("/dev/outbox").text

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


class TestHostileMessages:
    def test_every_field_is_escaped_on_every_page(self, client: Any, settings: Settings) -> None:
        caught = kept(
            1,
            sender=HOSTILE,
            to=HOSTILE,
            cc=(HOSTILE,),
            bcc=(HOSTILE,),
            reply_to=HOSTILE,
            subject=HOSTILE,
            text=HOSTILE,
            html=HOSTILE,
            headers={HOSTILE: HOSTILE},
            attachments=({"filename": HOSTILE, "contentType": HOSTILE, "size": 1},),
            delivery_id=HOSTILE,
            time=HOSTILE,
        )
        sms = kept(2, channel="sms", to=HOSTILE, text=HOSTILE, detail={"segments": HOSTILE, "encoding": HOSTILE})
        for message in (caught, sms):
            catcher_store(settings).add(message)

        paths = [f"/dev/outbox/{caught.id}?view={view}" for view in ("html", "text", "headers", "links", "files")]
        paths += [f"/dev/outbox/{caught.id}?view=source", f"/dev/outbox/{sms.id}", "/dev/outbox"]
        for path in paths:
            page = client.get(path)
            assert page.status_code == 200
            assert "<script>" not in page.text
            assert "<img src=x" not in page.text
            assert "7*7" in page.text or "49" not in page.text

    def test_the_frame_has_no_rights_of_its_own(self, client: Any, catch_email: Catch) -> None:
        caught = catch_email(subject="S", text="T", html=HOSTILE)

        answer = client.get(f"/dev/outbox/{caught}/html")

        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'")
        for refused in ("allow-scripts", "allow-same-origin", "allow-forms", "allow-top", "script-src", "http:"):
            assert refused not in policy
        assert "form-action 'none'" in policy
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert answer.headers["Referrer-Policy"] == "no-referrer"

    def test_images_from_elsewhere_only_when_asked_for(self, client: Any, catch_email: Catch) -> None:
        path = f"/dev/outbox/{catch_email(subject='S', text='T', html='<img src=https://x.example/i>')}"

        assert "Images from elsewhere are blocked" in client.get(path).text
        assert f'src="{path}/html"' in client.get(path).text
        assert f'src="{path}/html?images=1"' in client.get(f"{path}?images=1").text
        policy = client.get(f"{path}/html?images=1").headers["Content-Security-Policy"]
        assert "img-src data: http: https:;" in policy

    def test_the_page_around_it_keeps_its_distance(self, client: Any, catch_email: Catch) -> None:
        answer = client.get(f"/dev/outbox/{catch_email(subject='S', text='T', html='<p>')}")

        assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in answer.text
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]

    def test_a_javascript_link_is_listed_as_text(self, client: Any, catch_email: Catch) -> None:
        caught = catch_email(subject="S", text="T", html='<a href="javascript:alert(1)">Win</a>')

        page = client.get(f"/dev/outbox/{caught}?view=links").text

        assert "javascript:alert(1)" in page
        assert 'href="javascript' not in page

    def test_a_file_that_is_no_message_is_passed_over(self, client: Any, settings: Settings, catch_sms: Catch) -> None:
        catch_sms("The good one")
        (settings.data_dir / "outbox" / f"{UNKNOWN}.json").write_text("[1, 2")

        assert "The good one" in client.get("/dev/outbox").text
        assert client.get(f"/dev/outbox/{UNKNOWN}").status_code == 404

    def test_half_a_surrogate_pair_in_a_message_harms_nothing(self, client: Any, settings: Settings) -> None:
        caught = kept(1, subject="a\ud800b", text="a\ud800b", html="<p>a\ud800b", to="a\ud800b")
        catcher_store(settings).add(caught)

        for path in ("", "/messages", f"/{caught.id}", f"/{caught.id}/html", f"/{caught.id}?view=text"):
            answer = client.get(f"/dev/outbox{path}")
            assert answer.status_code == 200
            assert "a?b" in answer.text or path == f"/{caught.id}?view=links"


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


def kept(number: int = 0, **fields: Any) -> CaughtMessage:
    """A message with the id of this nanosecond."""
    caught_id = f"{10**18 + number:020d}-0000abcd"
    given = {"id": caught_id, "channel": "email", "time": "2026-11-20T07:08:09+00:00", "delivery_id": "d"}
    return CaughtMessage(**{**given, "sender": "s@example.com", "to": "t@example.com", "text": "x", **fields})


def assert_unknown_page(client: Any, answer: Any) -> None:
    """Not to be told apart from a page that never was."""
    unknown = client.get("/no/such/page")
    assert answer.status_code == unknown.status_code == 404
    assert answer.data == unknown.data
    varying = {"X-Request-Id", "RateLimit-Remaining", "RateLimit-Reset"}
    assert {k: v for k, v in answer.headers if k not in varying} == {
        k: v for k, v in unknown.headers if k not in varying
    }
