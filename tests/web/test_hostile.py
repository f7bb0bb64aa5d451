"""Caught messages that were written by an enemy: what the server does about them."""

from __future__ import annotations

from typing import Any

from app.config import Settings
from app.core.channels import catcher_store
from tests.web.caught import UNKNOWN, kept
from tests.web.conftest import Catch

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}'


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
            assert "{{7*7}}" in page.text

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

    def test_a_mail_without_images_says_nothing_of_them(self, client: Any, catch_email: Catch) -> None:
        path = f"/dev/outbox/{catch_email(subject='S', text='T', html='<p>words</p>')}"

        assert "Images from elsewhere" not in client.get(path).text

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
            assert "a?b" in answer.text
