"""The pages in a real browser, against a really running application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from app.config import Settings
from app.core.channels import catcher_store
from providers.contract import Attachment
from tests.conftest import wait_until
from tests.servers.http import HttpReceiver
from tests.web.caught import kept
from tests.web.conftest import PATIENCE_MS, Catch

pytestmark = pytest.mark.timeout(300)  # a real browser, on a machine that may be busy
ROWS = "#messages > li"
LONG = "A subject without any end " * 20 + "x" * 300
MAIL = """<!doctype html><html><head><style>h1 {color: rgb(0, 51, 102)}</style></head><body bgcolor="#eeeeee">
<table width="600"><tr><td><h1>Thank you</h1><a href="/dev/outbox" id="link">View your order</a></td></tr></table>"""


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser says is wrong with our own pages: refusals by policy, faults of the script."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def test_messages_appear_live_and_on_top(
    page: Page, site: str, catch_email: Catch, catch_sms: Catch, complaints: list[str]
) -> None:
    page.goto(f"{site}/dev/outbox")
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    page.evaluate("window.sameDocument = true")

    catch_email(subject="Your order <b>A-1001</b>", text="Thank you")
    expect(page.locator(ROWS)).to_have_count(1)
    catch_sms("On its way")
    expect(page.locator(ROWS)).to_have_count(2)

    expect(page.locator(ROWS).first).to_contain_text("On its way")
    expect(page.locator(ROWS).last).to_contain_text("Your order <b>A-1001</b>")
    expect(page.get_by_text("Nothing here yet")).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("1 new message")
    assert page.evaluate("window.sameDocument")
    page.locator(ROWS).last.click()
    expect(page.get_by_role("heading", name="Your order <b>A-1001</b>")).to_be_visible()
    assert complaints == []


def test_a_message_that_is_read_stays_while_new_ones_come(page: Page, site: str, catch_sms: Catch) -> None:
    caught = catch_sms("The one I read")
    page.goto(f"{site}/dev/outbox/{caught}")

    catch_sms("A newer one")

    expect(page.locator(ROWS)).to_have_count(2)
    expect(page.locator(".bubble")).to_have_text("The one I read")
    expect(page.locator("[aria-current=true]")).to_contain_text("The one I read")


@pytest.mark.parametrize("width", [1280, 390])
def test_new_messages_do_not_move_what_is_looked_at(
    page: Page, site: str, settings: Settings, catch_sms: Catch, width: int
) -> None:
    for number in range(40):
        catcher_store(settings).add(kept(number, subject=f"Number {number}"))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{site}/dev/outbox")
    looked_at = page.locator(ROWS).nth(20)
    looked_at.scroll_into_view_if_needed()
    looked_at.locator("a").focus()
    marked = page.locator(f'[data-id="{looked_at.get_attribute("data-id")}"]')
    before = marked.bounding_box()

    for number in range(3):
        catch_sms(f"New {number}")
    expect(page.locator(ROWS)).to_have_count(43)

    after = marked.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) <= 1
    assert marked.locator("a").evaluate("link => link === document.activeElement")


def test_a_flood_is_listed_whole(page: Page, site: str, settings: Settings, catch_sms: Catch) -> None:
    catcher_store(settings).add(kept(0))
    page.goto(f"{site}/dev/outbox")
    expect(page.locator(ROWS)).to_have_count(1)

    for number in range(120):
        catcher_store(settings).add(kept(number * 10**9 + 1))

    expect(page.locator(ROWS)).to_have_count(121)
    ids = page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.id)")
    assert ids == sorted(ids, reverse=True)


def test_it_asks_no_more_while_hidden_and_again_when_seen(page: Page, site: str, catch_sms: Catch) -> None:
    page.goto(f"{site}/dev/outbox")
    expect(page.get_by_text("Live")).to_be_visible()
    asked: list[str] = []
    page.evaluate("""() => {
        Object.defineProperty(document, 'hidden', {get: () => window.away !== false, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    page.wait_for_load_state("networkidle")
    page.on("request", lambda request: asked.append(request.url))
    catch_sms("While you were away")
    page.wait_for_timeout(2_500)  # a thing that must not happen has no event to wait for
    assert asked == []

    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")

    expect(page.locator(ROWS)).to_contain_text("While you were away")


def test_it_says_so_when_the_service_is_away_and_goes_on_when_it_is_back(
    page: Page, site: str, catch_sms: Catch
) -> None:
    page.goto(f"{site}/dev/outbox")
    page.route("**/dev/outbox/messages*", lambda route: route.abort())
    expect(page.get_by_text("Not reachable, trying again")).to_be_visible()
    catch_sms("Here again")

    page.unroute("**/dev/outbox/messages*")

    expect(page.locator(ROWS)).to_contain_text("Here again")
    expect(page.get_by_text("Live")).to_be_visible()


def test_all_of_it_works_without_javascript(browser: Browser, site: str, catch_email: Catch) -> None:
    catch_email(subject="Plain", text="As text", html=MAIL)
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()

    page.goto(f"{site}/dev/outbox")
    page.get_by_role("link", name="Plain").click()
    expect(page.frame_locator("iframe").get_by_text("Thank you")).to_be_visible()
    page.get_by_role("link", name="Text", exact=True).click()
    expect(page.get_by_text("As text").last).to_be_visible()
    context.close()


def test_it_can_be_used_by_keyboard_alone(page: Page, site: str, catch_sms: Catch) -> None:
    catch_sms("By keyboard")
    page.goto(f"{site}/dev/outbox")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.locator(".bubble")).to_have_text("By keyboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_scrolls_sideways_and_the_browser_has_no_complaint(
    page: Page, site: str, catch_email: Catch, catch_sms: Catch, complaints: list[str], width: int, scheme: Any
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site}/dev/outbox")
    sideways = {"/dev/outbox (empty)"} if scrolls_sideways(page) else set()
    file = Attachment("y" * 300 + ".pdf", b"x", "application/pdf")
    links = f'<a href="https://shop.example/{"z" * 300}">{"w" * 200}</a>'
    email = catch_email("a" * 60 + "@example.com", subject=LONG, text=LONG, html=MAIL + links, attachments=(file,))
    sms = catch_sms(LONG[-400:])

    paths = ["/", "/dev/outbox", f"/dev/outbox/{sms}"]
    for path in paths + [f"/dev/outbox/{email}?view={view}" for view in ("html", "text", "headers", "links", "files")]:
        page.goto(site + path)
        if scrolls_sideways(page):
            sideways.add(path)

    assert sideways == set()
    assert complaints == []


def test_images_come_when_they_are_asked_for_and_not_before(
    page: Page, site: str, receiver_of_images: HttpReceiver, catch_email: Catch
) -> None:
    caught = catch_email(subject="S", text="T", html=f'<img src="{receiver_of_images.url("/pixel")}"><p id=end>end')
    page.goto(f"{site}/dev/outbox/{caught}")
    expect(page.frame_locator("iframe").locator("#end")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert receiver_of_images.ledger == []

    page.get_by_role("link", name="Show them").click()

    wait_until(lambda: receiver_of_images.ledger)
    assert "referer" not in receiver_of_images.ledger[0].headers


@pytest.fixture
def receiver_of_images() -> Iterator[HttpReceiver]:
    with HttpReceiver() as running:
        yield running


def scrolls_sideways(page: Page) -> bool:
    """Whether the page, or a pane of it, is wider than its window."""
    return bool(
        page.evaluate("""() => [document.documentElement, ...document.querySelectorAll('main, .list, .letter')]
            .some(box => box.scrollWidth > box.clientWidth)""")
    )
