"""Every helper: what it prints, in which language and zone, and what it says to bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.core.templating import HELPERS, LimitError, RenderError, TemplateError

BERLIN = {"locale": "de-DE", "time_zone": "Europe/Berlin"}
PRINTS: list[tuple[str, Any, dict[str, str], str]] = [
    (
        "{{eq a 1}}{{eq a '1'}}{{eq a 1.0}}{{eq b true}}{{eq 1 true}}{{eq n undefined}}",
        {"a": 1, "b": True},
        {},
        "truefalsetruetruefalsetrue",
    ),
    ("{{ne a 1}}{{ne a 2}}", {"a": 1}, {}, "falsetrue"),
    ("{{gt a 1}}{{gte a 2}}{{lt a 2}}{{lte a 2}}", {"a": 2}, {}, "truetruefalsetrue"),
    ("{{gt '10' 9}}{{gt 'b' 'a'}}{{gt n 1}}{{lt n 1}}", {}, {}, "truetruefalsefalse"),
    ("{{#gt a 1}}more{{else}}less{{/gt}}{{#eq a 1}}one{{else eq a 2}}two{{/eq}}", {"a": 2}, {}, "moretwo"),
    ("{{and a b}}{{or n b}}{{not n}}{{#if (and a (or n b))}}y{{/if}}", {"a": 1, "b": "x"}, {}, "xxtruey"),
    (
        "{{date d}}|{{date d 'long'}}|{{date d 'yyyy-MM-dd'}}",
        {"d": "2026-03-01T23:30:00Z"},
        {},
        "Mar 1, 2026|March 1, 2026|2026-03-01",
    ),
    (
        "{{date d}}|{{date d 'long'}}|{{date d 'yyyy-MM-dd'}}",
        {"d": "2026-03-01T23:30:00Z"},
        BERLIN,
        "02.03.2026|2. März 2026|2026-03-02",
    ),
    (
        "{{date d 'full'}}",
        {"d": "2026-03-01"},
        {"locale": "en", "time_zone": "America/New_York"},
        "Sunday, March 1, 2026",
    ),
    ("{{time d}}|{{time d 'HH:mm'}}", {"d": "2026-03-01T23:30:00Z"}, BERLIN, "00:30|00:30"),
    ("{{datetime d 'short'}}", {"d": "2026-03-01T23:30:00+02:00"}, BERLIN, "01.03.26, 22:30"),
    (
        "{{date d 'yyyy-MM-dd'}}|{{date e 'yyyy-MM-dd'}}",
        {"d": 1772407800, "e": 1772407800000},
        {},
        "2026-03-01|2026-03-01",
    ),
    ("{{date d}}{{time d}}{{datetime d}}{{number d}}{{money d 'EUR'}}{{percent d}}{{join d}}{{upper d}}", {}, {}, ""),
    (
        "{{number n}}|{{number n decimals=2}}|{{number n decimals=0}}|{{number 5}}",
        {"n": 1234.567},
        {},
        "1,234.567|1,234.57|1,235|5",
    ),
    ("{{number n}}|{{number n decimals=2}}", {"n": 1234.567}, BERLIN, "1.234,567|1.234,57"),
    ("{{number '1234.5'}}", {}, {}, "1,234.5"),
    (
        "{{money a 'EUR'}}|{{money a 'usd'}}|{{money a 'JPY'}}|{{money a n}}",
        {"a": 1234.5},
        {},
        "€1,234.50|$1,234.50|¥1,234|1,234.50",
    ),
    ("{{money a 'EUR'}}", {"a": 49.9}, BERLIN, "49,90\u00a0€"),
    ("{{money '0.1' 'EUR'}}", {}, {}, "€0.10"),
    ("{{percent p}}|{{percent p decimals=1}}", {"p": 0.256}, {}, "25.6%|25.6%"),
    ("{{percent p}}", {"p": 0.25}, BERLIN, "25\u00a0%"),
    ("{{{json a}}}", {"a": {"b": [1, "é<", None, True, 1.5]}}, {}, '{"b":[1,"é<",null,true,1.5]}'),
    ("{{json a}}", {"a": "<"}, {}, "&quot;&lt;&quot;"),
    (
        "{{default n 'x'}}{{default z 'x'}}{{default e 'y'}}{{default f 'z'}}",
        {"z": 0, "e": "", "f": False},
        {},
        "x0yfalse",
    ),
    (
        "{{truncate s 5}}|{{truncate s 20}}|{{truncate s 5 '...'}}|{{truncate s 0}}",
        {"s": "Hello world"},
        {},
        "Hell…|Hello world|He...|",
    ),
    (
        "{{pluralize 1 'item'}} {{pluralize 2 'item'}} {{pluralize 0 'child' 'children'}} {{pluralize l 'a' 'b'}}",
        {"l": [1]},
        {},
        "item items children a",
    ),
    (
        "{{join l}}|{{join l ' / '}}|{{join m field='a'}}",
        {"l": [1, "b"], "m": [{"a": "x"}, {"a": "y"}]},
        {},
        "1, b|1 / b|x, y",
    ),
    ("{{upper s}}{{lower s}}{{capitalize s}}", {"s": "straße X"}, {}, "STRASSE Xstraße xStraße X"),
    ("{{date d 'long'}}", {"d": "2026-03-01"}, {"locale": "xx-nope", "time_zone": "Nowhere/At_All"}, "March 1, 2026"),
    (
        "{{date d 'long'}}",
        {"d": "2026-03-01"},
        {"locale": "../../etc", "time_zone": "../../etc/passwd"},
        "March 1, 2026",
    ),
    ("{{date d 'long'}}", {"d": "2026-03-01"}, {"locale": "de-XX"}, "1. März 2026"),
    ("{{date d 'long'}}", {"d": "2026-03-01"}, {"locale": "zh-Hant-TW"}, "2026年3月1日"),
]


@pytest.mark.parametrize(("template", "data", "run", "expected"), PRINTS)
def test_helpers_print(render: Any, template: str, data: Any, run: dict[str, str], expected: str) -> None:
    assert render(template, data, **run).replace("\u202f", " ") == expected


FAILS = [
    ("{{date 'soon'}}", "date"),
    ("{{date l}}", "date"),
    ("{{date true}}", "date"),
    ("{{time 'x'}}", "time"),
    ("{{datetime '2026-13-01'}}", "datetime"),
    ("{{date '2026-01-01' l}}", "date"),
    ("{{date '2026-01-01' 'qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq'}}", "date"),
    ("{{number 'x'}}", "number"),
    ("{{number l}}", "number"),
    ("{{number true}}", "number"),
    ("{{number 1 decimals='2'}}", "number"),
    ("{{number 1 decimals=99}}", "number"),
    ("{{money 'x' 'EUR'}}", "money"),
    ("{{money 1 'EURO'}}", "money"),
    ("{{money 1 5}}", "money"),
    ("{{money 1 '<b>'}}", "money"),
    ("{{percent 'x'}}", "percent"),
    ("{{truncate 'x' 'y'}}", "truncate"),
    ("{{truncate 'x' -1}}", "truncate"),
    ("{{truncate l 5}}", "truncate"),
    ("{{pluralize 'x' 'item'}}", "pluralize"),
    ("{{join 'x'}}", "join"),
    ("{{upper l}}", "upper"),
    ("{{lower m}}", "lower"),
    ("{{gt l 1}}", "gt"),
    ("{{lt true 1}}", "lt"),
    ("{{gte 'x' 1}}", "gte"),
]


@pytest.mark.parametrize(("template", "helper"), FAILS)
def test_bad_input_is_a_render_error_that_names_the_helper(render: Any, template: str, helper: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(template, {"l": [1], "m": {"a": 1}})
    assert re.match(rf"{helper}\b", caught.value.message)


@pytest.mark.parametrize(
    "template",
    [
        "{{date}}",
        "{{date 1 2 3}}",
        "{{money 1}}",
        "{{upper}}",
        "{{json}}",
        "{{eq 1}}",
        "{{number 1 digits=2}}",
        "{{#upper 'x'}}y{{/upper}}",
        "{{#date x}}{{/date}}",
    ],
)
def test_wrong_use_of_a_helper_is_refused_at_save(render: Any, template: str) -> None:
    with pytest.raises(TemplateError):
        render(template)


def test_every_date_format_ends_in_text_or_a_render_error(render: Any) -> None:
    for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'#%":
        for count in (1, 2, 3, 4, 5, 6, 60):
            for value in (
                "2026-01-02",
                "2026-01-02T03:04:05Z",
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59-12:00",
            ):
                for helper in ("date", "time", "datetime"):
                    try:
                        render(f"{{{{{helper} d f}}}}", {"d": value, "f": letter * count}, **BERLIN)
                    except RenderError as error:
                        assert helper in error.message


def test_a_text_too_long_for_a_helper_is_a_limit_error(render: Any) -> None:
    for template in ("{{upper s}}", "{{truncate s 5}}", "{{join l}}"):
        with pytest.raises(LimitError):
            render(template, {"s": "x" * 200_000, "l": ["x" * 1000] * 200})


def test_every_helper_is_in_the_page_for_authors() -> None:
    page = (Path(__file__).parents[3] / "docs" / "templates.md").read_text("utf-8")
    assert [name for name in HELPERS if f"`{name}`" not in page and f"{{{{{name} " not in page] == []
