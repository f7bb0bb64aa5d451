"""What is taken out of hostile text."""

from __future__ import annotations

import pytest

from app.entrypoints.web import letters
from providers.catcher import CaughtMessage


def caught(**fields: object) -> CaughtMessage:
    given = {"id": "0" * 20 + "-" + "0" * 8, "channel": "email", "time": "2026-11-20T07:08:09.5+00:00"}
    return CaughtMessage(**{**given, "delivery_id": "d", "sender": "s", "to": "t", **fields})  # type: ignore[arg-type]


def test_links_of_both_parts_are_listed_once_each_in_order() -> None:
    found = letters.links(
        caught(
            html='<A class=x HREF = "https&#58;//a.example/?a=1&amp;b=2"><b>Go &amp; see</b></A><a href=/rel>r</a>',
            text="See https://a.example/?a=1&b=2 or (https://b.example/x).",
        )
    )

    assert found == [
        letters.Link("https://a.example/?a=1&b=2", "Go & see", True),
        letters.Link("/rel", "r", False),
        letters.Link("https://b.example/x", "", True),
    ]


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        " JaVa&#9;Script&colon;alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
    ],
)
def test_a_link_that_runs_something_is_shown_and_never_opened(href: str) -> None:
    (link,) = letters.links(caught(html=f'<a href="{href}">x</a>'))

    assert not link.opened


def test_another_attribute_that_ends_in_href_is_no_link() -> None:
    assert letters.links(caught(html='<a data-href="https://x.example">x</a>')) == []


SLOW = (
    "<a " * 300_000,
    "<a href='" * 100_000,
    '<a href="' + "x" * 900_000,
    "<" * 900_000,
    "<a" + ' "' * 400_000,
    f"<a {'href= ' * 150_000}>",
    '<a href="x">' * 80_000,
    "<style>" * 100_000,
)


@pytest.mark.parametrize("html", SLOW, ids=range(len(SLOW)))
@pytest.mark.timeout(20)
def test_text_made_to_be_slow_is_read_in_linear_time(html: str) -> None:
    assert len(letters.links(caught(html=html))) <= letters.MAX_LINKS
    assert letters.framed(html)
    assert letters.summary(caught(html=html))


def test_a_thousand_links_end_at_the_limit() -> None:
    many = "".join(f'<a href="https://x.example/{n}">{n}</a>' for n in range(1_000))

    assert len(letters.links(caught(html=many, text="https://y.example"))) == letters.MAX_LINKS


@pytest.mark.parametrize("tag", ["link", "LINK", "Meta", "base", "iframe", "frame", "object", "embed"])
def test_tags_that_fetch_or_redirect_without_a_script_are_disarmed(tag: str) -> None:
    assert f"<{tag}".lower() not in letters.framed(f"<{tag} href=x><{tag}/href=x>").lower().replace("<base target=", "")


def test_ordinary_html_is_left_as_it_is() -> None:
    html = (
        "<html><head><title>A</title><style>p{}</style></head><body bgcolor=red><p>linked <metadata></p></body></html>"
    )

    assert letters.framed(html).endswith(html)


def test_the_summary_has_the_words_of_an_html_mail_that_has_no_text() -> None:
    shown = letters.summary(
        caught(html="<title>no</title><style>p{}</style><p>Hello <b>you</b> &amp; me</p>", subject="S")
    )

    assert shown["preview"] == "Hello you & me"
    assert shown["shownTime"] == "20 Nov, 07:08:09"


def test_half_a_surrogate_pair_and_a_strange_time_harm_nothing() -> None:
    shown = letters.summary(caught(text="a\ud800b", time="yesterday"))

    assert shown["preview"] == "a?b"
    assert shown["shownTime"] == "yesterday"
