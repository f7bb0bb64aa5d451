"""A hostile mail in a real browser. What each attack does to an unguarded page is shown first: they are live."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.servers.http import Answer, HttpReceiver
from tests.web.conftest import Catch

pytestmark = pytest.mark.timeout(300)  # a real browser, on a machine that may be busy

# {sink} is a server of the enemy's. Every one of these speaks to it by itself on a page that nobody guards.
BY_ITSELF = {
    "script": "<script>fetch('{sink}/script')</script>",
    "script file": "<script src='{sink}/script.js'></script>",
    "event handler": "<img src='data:,' onerror=\"fetch('{sink}/onerror')\">",
    "svg handler": "<svg onload=\"fetch('{sink}/svg')\"></svg>",
    "meta refresh": "<meta http-equiv=refresh content='0;url={sink}/refresh'>",
    "frame": "<iframe src='{sink}/frame'></iframe>",
    "frame of script": "<iframe srcdoc=\"<script>fetch('{sink}/srcdoc')</script>\"></iframe>",
    "object": "<object data='{sink}/object' type='text/html'></object>",
    "embed": "<embed src='{sink}/embed' type='text/html'>",
    "style sheet": "<link rel=stylesheet href='{sink}/sheet.css'>",
    "import": "<style>@import url('{sink}/import.css');</style>",
    "font": "<style>@font-face {{font-family: f; src: url('{sink}/font')}} p {{font-family: f}}</style><p>words</p>",
    "background": "<p style=\"background: url('{sink}/background')\">words</p>",
    "image": "<img src='{sink}/image'>",
    "svg image": "<svg><image href='{sink}/svgimage'/></svg>",
    "image button": "<form><input type=image src='{sink}/button'></form>",
    "video": "<video src='{sink}/video' poster='{sink}/poster' autoplay></video>",
    "audio": "<audio src='{sink}/audio' autoplay></audio>",
    "preconnect": "<link rel=preconnect href='{sink}/'>",
    "preload": "<link rel=preload as=image href='{sink}/preload'>",
    "icon": "<link rel=icon href='{sink}/icon'>",
    "form": "<form id=f action='{sink}/form'></form><script>f.submit()</script>",
    "top": "<script>top.location = '{sink}/top'</script>",
}
# A headless browser asks for no icon and connects nowhere in advance: these have nothing to show when unguarded.
QUIET = {"icon", "preconnect"}
CLICKED = {
    "the page's own window": "<a id=x target=_top href='{sink}/top'>Click me please</a>",
    "the parent": "<a id=x target=_parent href='{sink}/parent'>Click me please</a>",
    "a base": "<base target=_top><a id=x href='{sink}/base'>Click me please</a>",
    "a script": "<a id=x href=\"javascript:fetch('{sink}/js')\">Click me please</a>",
    "a script of the page": "<a id=x target=_top href=\"javascript:fetch('{sink}/js')\">Click me please</a>",
    "itself": "<a id=x target=_self href='{sink}/self'>Click me please</a>",
    "a form": "<form action='{sink}/form' target=_top><button id=x>Click me please</button></form>",
    "a download": "<a id=x download href='data:text/html,x' target=_self>Click me please</a>",
}


@pytest.fixture
def sink() -> Iterator[HttpReceiver]:
    with HttpReceiver() as running:
        yield running


def test_each_attack_reaches_the_enemy_from_an_unguarded_page(browser: Browser) -> None:
    silent = set()
    for name in sorted(BY_ITSELF.keys() - QUIET):
        # A page for each: the attack before may still be navigating.
        with HttpReceiver() as sink, HttpReceiver() as unguarded, browser.new_context() as context:
            html = BY_ITSELF[name].format(sink=sink.url("")).encode()
            unguarded.on("/", Answer(200, {"content-type": "text/html"}, html))
            page = context.new_page()
            page.goto(unguarded.url("/"), wait_until="commit")
            if not _comes_true(page, sink):
                silent.add(name)

    assert silent == set()


@pytest.mark.parametrize("images", [False, True])
def test_no_attack_does_anything_from_the_catcher(
    page: Page, site: str, sink: HttpReceiver, catch_email: Catch, images: bool
) -> None:
    attacks = [html for name, html in BY_ITSELF.items() if not (images and _is_image(name))]
    html = "".join(attacks).format(sink=sink.url("")) + "<p id=end>The end</p>"
    caught = catch_email(subject="Hostile", text="T", html=html)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    address = f"{site}/dev/outbox/{caught}{'?images=1' if images else ''}"

    page.goto(address)
    expect(page.frame_locator("iframe").locator("#end")).to_be_visible()
    for _ in range(2):
        page.wait_for_event("response", lambda response: "/messages" in response.url)

    assert sink.ledger == []
    assert sink.connections == 0
    assert dialogs == []
    assert page.url == address
    expect(page.get_by_role("heading", name="Hostile")).to_be_visible()
    expect(page.frame_locator("iframe").locator("#end")).to_be_visible()


def test_no_click_moves_or_reads_the_page(page: Page, site: str, sink: HttpReceiver, catch_email: Catch) -> None:
    caught = {
        name: catch_email(subject="Hostile", text="T", html=html.format(sink=sink.url("")))
        for name, html in CLICKED.items()
    }
    downloads: list[object] = []
    page.on("download", lambda download: downloads.append(download))
    moved = set()
    for name, caught_id in caught.items():
        page.goto(f"{site}/dev/outbox/{caught_id}")
        page.evaluate("window.sameDocument = true")
        page.frame_locator("iframe").locator("#x").click(no_wait_after=True)
        page.wait_for_event("response", lambda response: "/messages" in response.url)
        if page.url != f"{site}/dev/outbox/{caught_id}" or not page.evaluate("window.sameDocument"):
            moved.add(name)

    assert moved == set()
    assert downloads == []
    # What was followed went to a page of its own, which knows nothing of this one.
    opened = [other for other in page.context.pages if other is not page]
    assert all(other.evaluate("window.opener") is None for other in opened)
    assert {request.path for request in sink.ledger} <= {"/base", "/favicon.ico"}


@pytest.mark.parametrize("rel", ["", "opener"])
def test_a_link_opens_a_new_page_that_does_not_know_who_opened_it(
    page: Page, site: str, sink: HttpReceiver, catch_email: Catch, rel: str
) -> None:
    script = b"<script>if (window.opener) { opener.top.location = '/stolen' }</script><p>The shop</p>"
    sink.on("/shop", Answer(200, {"content-type": "text/html"}, script))
    caught = catch_email(subject="S", text="T", html=f'<a id=x rel="{rel}" href="{sink.url("/shop")}">Shop</a>')
    page.goto(f"{site}/dev/outbox/{caught}")

    with page.context.expect_page() as opening:
        page.frame_locator("iframe").locator("#x").click()
    shop = opening.value
    expect(shop.get_by_text("The shop")).to_be_visible()

    assert shop.evaluate("window.opener") is None
    assert page.url == f"{site}/dev/outbox/{caught}"
    assert "referer" not in sink.ledger[0].headers


def test_the_frame_opened_alone_is_as_harmless(page: Page, site: str, sink: HttpReceiver, catch_email: Catch) -> None:
    html = "".join(BY_ITSELF.values()).format(sink=sink.url("")) + "<p id=end>The end</p>"
    address = f"{site}/dev/outbox/{catch_email(subject='S', text='T', html=html)}/html"

    page.goto(address)
    expect(page.locator("#end")).to_be_visible()
    page.wait_for_load_state("networkidle")

    assert sink.connections == 0
    assert page.url == address


def test_no_other_site_can_frame_the_catcher(page: Page, site: str, sink: HttpReceiver, catch_email: Catch) -> None:
    caught = catch_email(subject="S", text="T", html="<p>secret words</p>")
    frames = "".join(f"<iframe src='{site}/dev/outbox{end}'></iframe>" for end in ("", f"/{caught}", f"/{caught}/html"))
    sink.on("/", Answer(200, {"content-type": "text/html"}, frames.encode()))

    page.goto(sink.url("/"))

    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"] * 3


def _comes_true(page: Page, sink: HttpReceiver, seconds: int = 60) -> bool:
    for _ in range(seconds * 50):
        if sink.ledger:
            return True
        page.wait_for_timeout(20)
    return False


def _is_image(name: str) -> bool:
    return "image" in name or name in ("background", "video", "preload")
