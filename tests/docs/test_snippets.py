"""The programs that the pages show to those who receive webhooks and sign tokens: run as they stand."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as BrowserError
from standardwebhooks.webhooks import WebhookVerificationError

from app.core import keys
from providers.webhook.signature import new_secret, sign

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECRET = new_secret()
BODY = '{"type":"order.created","data":{"name":"Zoë ☂"}}'.encode()

Verify = Callable[[str, dict[str, str], bytes], None]


def snippet(page: str, name: str) -> str:
    """The program of a page with this name in the comment before it."""
    found = re.search(
        rf"^<!-- snippet: {re.escape(name)} -->\n```\w+\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S
    )
    assert found, f"{page} shows no {name}"
    return found[1]


def headers(*, secret: str = SECRET, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    """Those of a webhook that was sent now."""
    timestamp = int(time.time() if at is None else at)
    signature = sign(secret, "01a1f7d5", timestamp, body)
    return {"webhook-id": "01a1f7d5", "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def python(name: str) -> Verify:
    """The function `verify` of a Python snippet."""
    space: dict[str, Any] = {}
    exec(compile(snippet("webhooks.md", name), name, "exec"), space)
    return space["verify"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def browser_page(browser: Browser) -> Iterator[Page]:
    """A page that has `crypto.subtle`, which browsers keep from pages of unknown origin."""
    page = browser.new_page()
    page.route("**/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto("http://localhost/")
    page.add_script_tag(content=snippet("webhooks.md", "verify.js"))
    yield page
    page.close()


@pytest.fixture(params=["verify.py", "library.py", "verify.js"])
def verify(request: pytest.FixtureRequest) -> Verify:
    """Each program in turn, as one Python function."""
    if request.param != "verify.js":
        return python(request.param)
    page: Page = request.getfixturevalue("browser_page")

    def in_browser(secret: str, given: dict[str, str], body: bytes) -> None:
        page.evaluate("([secret, headers, body]) => verify(secret, headers, body)", [secret, given, body.decode()])

    return in_browser


REFUSALS = (ValueError, WebhookVerificationError, BrowserError)


def test_a_webhook_of_ours_is_verified(verify: Verify) -> None:
    verify(SECRET, headers(), BODY)


def test_one_signature_of_several_is_enough(verify: Verify) -> None:
    given, other = headers(), headers(secret=new_secret())
    given["webhook-signature"] = f"{other['webhook-signature']} {given['webhook-signature']}"

    verify(SECRET, given, BODY)


def test_another_body_is_refused(verify: Verify) -> None:
    with pytest.raises(REFUSALS):
        verify(SECRET, headers(), BODY.replace(b"order", b"Order"))


def test_another_secret_is_refused(verify: Verify) -> None:
    with pytest.raises(REFUSALS):
        verify(new_secret(), headers(), BODY)


@pytest.mark.parametrize("seconds", [-301, 400])
def test_a_time_too_far_from_now_is_refused(verify: Verify, seconds: int) -> None:
    with pytest.raises(REFUSALS):
        verify(SECRET, headers(at=time.time() + seconds), BODY)


def test_another_id_is_refused(verify: Verify) -> None:
    with pytest.raises(REFUSALS):
        verify(SECRET, headers() | {"webhook-id": "01a1f7d6"}, BODY)


def test_the_shell_s_example_is_the_specification_s_own() -> None:
    page = (DOCS / "webhooks.md").read_text()
    secret, shown = re.search(r"^SECRET=(whsec_\S+)$", page, re.M), re.search(r"^(\S{43}=)$", page, re.M)
    assert secret
    assert shown

    signature = sign(secret[1], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signature == f"v1,{shown[1]}" == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_token_signed_as_shown_opens_the_person_s_notifications(
    client: Any, auth: dict[str, str], runtime: Any
) -> None:
    space: dict[str, Any] = {}
    exec(compile(snippet("api.md", "token"), "token", "exec"), space)
    made = client.post("/api/signing-keys", headers=auth, json={"name": "shop", "algorithm": keys.ALGORITHMS[0]}).json

    token = space["token_for"]("ada", made["id"], made["secret"])

    answer = client.get("/api/notifications/unread-count", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json) == (200, {"count": 0})
