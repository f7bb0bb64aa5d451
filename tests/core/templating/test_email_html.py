"""Styles inlined and text made from HTML: right in themselves, and the same once per template as once per message."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.templating import CompiledMessage, RenderError, TemplateError, compile_message
from app.core.templating.email_html import css, part, text
from app.core.templating.email_html.flat import NotStaticError

STYLE = "<style>p { color: red } .big b { font-size: 20px } td.x { padding: 1px; }</style>"


def email(html: str, partials: dict[str, str] | None = None) -> CompiledMessage:
    return compile_message("email", {"subject": "s", "html": html}, partials or {})


def per_message(html: str, partials: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch) -> CompiledMessage:
    """The same message, made to believe that nothing can be proven."""

    def refuse(*args: Any) -> None:
        raise NotStaticError

    with monkeypatch.context() as patch:
        patch.setattr(part, "flatten", refuse)
        return CompiledMessage("email", {"subject": "s", "html": html}, partials or {})


def test_styles_are_written_into_attributes_and_nothing_else_changes() -> None:
    html = (
        "<!doctype html>\n<html><head>"
        + STYLE
        + '</head><body>\n<p  class="big">a<b>b</b>\n<i>c</i></p></body></html>\n'
    )
    assert css.inline(html) == (
        '<!doctype html>\n<html><head></head><body>\n<p style="color: red"  class="big">a'
        '<b style="font-size: 20px">b</b>\n<i>c</i></p></body></html>\n'
    )


def test_an_author_s_own_style_wins_and_media_rules_stay() -> None:
    html = '<style>p{color:red;margin:0}@media (max-width:9px){p{color:blue}}</style><p style="color:green">x</p>'
    result = css.inline(html)
    assert "@media (max-width:9px){p{color:blue}}" in result
    assert result.index("margin") < result.index("green")


def test_no_style_sheet_is_ever_fetched_or_read() -> None:
    for link in ("file:///etc/passwd", "/etc/passwd", "http://127.0.0.1:9/x.css", "//127.0.0.1:9/x.css"):
        html = f'<link rel="stylesheet" href="{link}"><style>@import "{link}"; p{{color:red}}</style><p>x</p>'
        assert css.inline(html).endswith('<p style="color: red">x</p>')


def test_html_without_styles_is_left_alone() -> None:
    html = "<p>a<br>b</P><TABLE><tr><td>c"
    assert email(html).render({})["html"] == html


STATIC: dict[str, tuple[str, dict[str, str]]] = {
    "values": (STYLE + '<p title="{{a}}">{{a}} <a href="{{url}}?x={{b}}">{{b}}</a></p>', {}),
    "branches": (
        STYLE + "{{#if a}}<p>{{a}}</p>{{else if b}}<p class='big'><b>{{b}}</b></p>{{else}}<p>none</p>{{/if}}",
        {},
    ),
    "loops": (STYLE + "<ul>{{#each l}}<li>{{this}} {{@index}}</li>{{else}}<li>none</li>{{/each}}</ul>", {}),
    "tables": (STYLE + "<table>{{#each l}}<tr><td class='x'>{{@key}}</td><td>{{this}}</td></tr>{{/each}}</table>", {}),
    "params": (STYLE + "{{#each m as |v k|}}<p>{{k}}={{v}}{{#with v as |w|}}{{w}}{{/with}}</p>{{/each}}", {}),
    "attribute": (STYLE + '<p title="{{#if a}}A{{else}}B{{/if}}"><img alt="{{a}}" src="{{url}}"></p>', {}),
    "link": (
        STYLE
        + '<p><a href="{{url}}">{{url}}</a> <a href="{{#if a}}{{url}}{{else}}#{{/if}}">{{#if b}}go{{/if}}</a></p>',
        {},
    ),
    "partial": (STYLE + '<div class="big">{{> p b=a}}{{> p}}</div>', {"p": "<b>{{b}}</b>"}),
    "layout": (
        "{{#> l title='T'}}<b>{{a}}</b>{{/l}}",
        {"l": STYLE + "<h1>{{title}}</h1><p class='big'>{{> @partial-block}}</p>"},
    ),
    "slots": (
        "{{#> l}}{{#*inline 'head'}}<b>{{a}}</b>{{/inline}}{{#*inline 'foot'}}<p>{{b}}</p>{{/inline}}"
        "<i>{{a}}</i>{{/l}}",
        {
            "l": STYLE + "<div class='big'>{{> head}}</div>{{> @partial-block}}"
            "{{#> foot}}none{{/foot}}{{#> more}}<p>m</p>{{/more}}"
        },
    ),
    "nested layouts": (
        "{{#> a}}{{#> b}}<b>{{a}}</b>{{/b}}{{/a}}",
        {"a": STYLE + "<p class='big'>{{> @partial-block}}</p>", "b": "<i>{{> @partial-block}}</i>"},
    ),
    "layout in layout": (
        "{{#> a}}<b>{{a}}</b>{{/a}}",
        {"a": "{{#> b}}<p>{{> @partial-block}}</p>{{/b}}", "b": STYLE + "<div class='big'>{{> @partial-block}}</div>"},
    ),
    "partial in a loop": (STYLE + "{{#each l}}\n  {{> p}}\n{{/each}}", {"p": "<p>{{this}}\n{{@index}}</p>\n"}),
    "hidden": (STYLE + "<div style='display:none'>{{a}}{{#if b}}x{{/if}}</div><title>{{a}}</title><p>{{b}}</p>", {}),
    "comments": (STYLE + "<!-- {{a}} {{#if b}}x{{/if}} -->{{! c }}<p>{{~a~}}</p>", {}),
    "no styles": ("<p>{{a}}</p>{{#each l}}<hr>{{this}}{{/each}}", {}),
    "raw block": (STYLE + "<p>{{{{raw}}}}{{a}}{{{{/raw}}}}</p>", {}),
    "sections": (STYLE + "{{#m}}<p>{{x}}</p>{{/m}}{{^n}}<p>no</p>{{/n}}{{#l}}<p>{{.}}</p>{{/l}}", {}),
}
DYNAMIC: dict[str, tuple[str, dict[str, str]]] = {
    "a class": (STYLE + '<p class="{{a}}">x</p>', {}),
    "part of a class": (STYLE + '<p class="{{#if a}}big{{/if}}"><b>x</b></p>', {}),
    "an id": (STYLE + '<p id="{{a}}">x</p>', {}),
    "a style": (STYLE + '<p style="color: {{a}}">x</p>', {}),
    "a rule": ("<style>p { color: {{a}} }</style><p>x</p>", {}),
    "a whole attribute": (STYLE + "<p {{#if a}}class='big'{{/if}}><b>x</b></p>", {}),
    "a name": (STYLE + "<{{a}}>x</{{a}}>", {}),
    "no quotes": (STYLE + "<p title={{a}}>x</p>", {}),
    "raw HTML": (STYLE + "<div class='big'>{{{raw}}}</div>", {}),
    "a sibling": ("<style>b + b { color: red }</style>{{#if a}}<b>x</b>{{/if}}<b>y</b>", {}),
    "a place": ("<style>li:first-child { color: red }</style><ul>{{#each l}}<li>x</li>{{/each}}</ul>", {}),
    "an attribute asked for": ("<style>[title=p] { color: red }</style><b title='{{a}}'>x</b>", {}),
    "open branches": (STYLE + "{{#if a}}<p>{{else}}<div>{{/if}}x{{#if a}}</p>{{else}}</div>{{/if}}", {}),
    "open elements": (STYLE + "<div>{{#each l}}<p>{{this}}{{/each}}</div>", {}),
    "misnested": (STYLE + "<p><b>{{a}}</p></b>", {}),
    "a paragraph closed by a block": (STYLE + "<p class='big'>{{#if a}}<div>x</div>{{/if}}<b>y</b></p>", {}),
    "a partial named by data": (STYLE + "{{> (lookup . 'name')}}", {"p": "<p>x</p>"}),
    "a block rendered twice": (
        "{{#> l}}<b>{{a}}</b>{{/l}}",
        {"l": STYLE + "<p class='big'>{{> @partial-block}}</p>{{> @partial-block}}"},
    ),
    "a partial in itself": (STYLE + "{{> p}}", {"p": "<p>{{n}}</p>{{#with next}}{{> p}}{{/with}}"}),
    "half an entity": (STYLE + "<p>&{{a}};</p>", {}),
}
DATA: list[dict[str, Any]] = [
    {},
    {
        "a": "p",
        "b": "<b>&amp;\n  x</b>",
        "url": "https://x.example/?a=1&b=2",
        "l": ["q", "", "<td>"],
        "m": {"x": 1, "y": [2]},
    },
    {
        "a": "big",
        "l": [1],
        "m": {"x": "  two  words "},
        "n": 1,
        "raw": "<b>raw</b><p>y</p>",
        "name": "p",
        "next": {"n": 2},
        "url": "mailto:a@b.example",
    },
]


@pytest.mark.parametrize("name", STATIC)
def test_what_data_cannot_change_is_done_once_and_comes_out_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    html, partials = STATIC[name]
    once, each_time = email(html, partials), per_message(html, partials, monkeypatch)
    assert once._html is not None
    assert once._html.is_static
    for data in DATA:
        assert once.render(data) == each_time.render(data)


@pytest.mark.parametrize("name", DYNAMIC)
def test_what_data_could_change_is_done_for_each_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    html, partials = DYNAMIC[name]
    message = email(html, partials)
    assert message._html is not None
    assert not message._html.is_static
    for data in DATA:
        data = {"name": "p", **data}
        assert message.render(data) == per_message(html, partials, monkeypatch).render(data)


def test_a_class_from_the_data_is_styled_by_it() -> None:
    message = email(STYLE + '<p class="{{a}}"><b>x</b></p>')
    assert "font-size" in message.render({"a": "big"})["html"]
    assert "font-size" not in message.render({"a": "small"})["html"]


TEXTS = [
    ("<p>a</p><p>b<br>c</p>", "a\n\nb\nc"),
    ("a &amp; b &lt;c&gt; &eacute; &#8364; &#x20AC; &nbsp; d &amp;amp;", "a & b <c> é € € d &amp;"),
    ("<a href='https://x.example/?a=1&amp;b=2'>Go</a>", "Go (https://x.example/?a=1&b=2)"),
    ("<a href='https://x.example'>https://x.example</a>", "https://x.example"),
    ("<a href='mailto:a@b.example'>a@b.example</a> <a href='tel:+123'>call</a>", "a@b.example call (+123)"),
    ("<a href='#top'>top</a> <a>none</a> <a href=''>empty</a>", "top none empty"),
    ("<a href='https://x.example'><img src='i' alt='Logo'></a>", "Logo (https://x.example)"),
    ("<a href='https://x.example'><img src='i'></a>", "https://x.example"),
    ("<ul><li>one</li><li>two</li></ul><ol><li>three</ol>", "- one\n- two\n\n- three"),
    ("<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td></td><td>2</td></tr></table>", "A  B\n1  2"),
    ("<table role='presentation'><tr><td><p>a</p><p>b</p></td></tr></table>", "a\n\nb"),
    ("<h1>T</h1>text<hr>more<div>x</div>", "T\n\ntext\n\n---\n\nmore\n\nx"),
    ("<style>p{}</style><script>x()</script><title>t</title><!-- c -->a", "a"),
    ("<div hidden>x</div><p style='display: none'>y<p>z</p></p><div style='DISPLAY:NONE'>q<div>r</div></div>w", "w"),
    ("  a \n\n  b\tc  ", "a b c"),
    ("<p>a<p>b", "a\n\nb"),
    ("<b>a</b><i>b</i> <span>c</span>", "ab c"),
    ("a<b", "a<b"),
    ("1 < 2", "1 < 2"),
    ("<p>&#99999999999999999999999999;x</p>", "\ufffdx"),
    ("", ""),
]


@pytest.mark.parametrize(("html", "expected"), TEXTS)
def test_the_text_part_reads_well(html: str, expected: str) -> None:
    assert text.from_html(html).replace("\ufffd\ufffd", "\ufffd") == expected


def test_a_text_part_of_the_author_s_is_kept() -> None:
    message = compile_message("email", {"subject": "s", "text": "mine {{a}}", "html": "<p>x</p>"}, {})
    assert message.render({"a": "<"})["text"] == "mine <"


HOSTILE = {
    "depth": "<div>" * 30_000,
    "depth that does not show": "<div><marquee></div></marquee>" * 6_000,
    "depth by data": "{{#each l}}<div>{{/each}}",
    "unclosed formatting": "".join(f"<font a{n}>" for n in range(150)) + "<p>x</p>" * 20_000,
    "attributes": "<a " + " ".join(f"a{n}=1" for n in range(20_000)) + ">",
    "declarations": "<style>p{" + "a:b;" * 20_000 + "}</style>" + "<p>x</p>" * 3_000,
    "style attributes": ('<p style="' + "a:b;" * 4_000 + '">') * 10,
    "open comments in styles": "<style>" + "/*" * 80_000 + "</style><p>x</p>",
    "open rules": "<style>" + "p{" * 80_000 + "</style><p>x</p>",
    "nested selectors": "<style>" + ":not(" * 10_000 + "a" + ")" * 10_000 + "{a:b}</style><p>x</p>",
    "open tags": "<p " * 60_000,
    "open attributes": "<p a='" * 30_000,
    "angle brackets": "<" * 190_000,
    "endless number": "&#" + "9" * 150_000 + ";",
    "open links": "<a href=x>" * 18_000,
    "tables": "<table><tr><td>" * 12_000,
    "private characters": "\U000f0000\U000f0001<p>{{a}}</p>\U000ffffd",
    "control characters": "\x04\x05\x06\x01\x02\x03<a href='\x04\x05'>\x06</a>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_html_ends_in_a_message_or_a_clear_error(name: str) -> None:
    try:
        result = email(STYLE + HOSTILE[name]).render({"l": [1] * 30_000})
        assert set(result) == {"subject", "html", "text"}
    except (TemplateError, RenderError) as error:
        assert len(error.message) > 10
    # And the process goes on serving.
    assert email("<p>{{a}}</p>").render({"a": "still here"})["text"] == "still here"
