"""The same words as handlebars.js 4.7, case by case.

Handlebars_cases.json is written by freeze.mjs from the npm package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.templating import RenderError, TemplateError

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "handlebars_cases.json").read_text("utf-8"))

REFUSED = {
    "{{a.[\\\\]}}": "a backslash before ] always escapes it; handlebars.js tries both readings",
    "{{#each a as |eq|}}{{eq 1}}{{/each}}": "values after a block parameter, which handlebars.js drops",
    "{{upper (nope)}}": "an unknown helper; handlebars.js calls it nothing as long as it has no values",
    "{{nope a=1}}": "an unknown helper; handlebars.js calls it nothing as long as it has no values",
    "{{upper (upper a)(b)}}": "two brackets without a space between, and a value too many",
    "{{#*inline}}i{{/inline}}": "an inline partial without a name, which nothing can call",
    "{{@this}}": "prints the loop's own data as [object Object]",
    "{{a\u0000}}": "a NUL character",
    "{{lookup a null}}": "null as a key, which handlebars.js takes for the text null",
}
"""Templates that handlebars.js renders and we refuse when they are saved, with the reason."""

ACCEPTED = {
    "{{a.0}}": "a number as the last step of a path",
    "{{#if a as |x|}}{{x}}{{b}}{{/if}}": "a block parameter that gets no value prints as nothing",
    "{{#unless a as |x|}}{{x}}{{b}}{{/unless}}": "a block parameter that gets no value prints as nothing",
    "{{#a as |x|}}[{{x}}]{{/a}}": "a block parameter that gets no value prints as nothing",
    "{{#each l as |y|}}{{#*inline 'x'}}{{y}}{{/inline}}{{> x}}{{/each}}": "an inline partial sees block parameters",
    "{{{a}}}}": "a brace after a triple tag, as JSON has it",
}
"""Templates that handlebars.js fails on and we render."""


def _name(case: dict[str, Any]) -> str:
    return f"{case['group']}: {case['template']} {json.dumps(case['data'])}"[:90]


@pytest.mark.parametrize("case", [case for case in CASES if "expected" in case], ids=_name)
def test_prints_what_handlebars_js_prints(case: dict[str, Any], render: Any) -> None:
    if case["template"] in REFUSED:
        with pytest.raises(TemplateError):
            render(case["template"], case["data"], case.get("partials"))
        return
    # Half an emoji leaves any program as U+FFFD: JavaScript holds it until it is encoded.
    expected = case["expected"].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert render(case["template"], case["data"], case.get("partials")) == expected


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=_name)
def test_fails_clearly_where_handlebars_js_fails(case: dict[str, Any], render: Any) -> None:
    if case["template"] in ACCEPTED:
        render(case["template"], case["data"], case.get("partials"))
        return
    with pytest.raises((TemplateError, RenderError)) as caught:
        render(case["template"], case["data"], case.get("partials"))
    assert len(caught.value.message) > 10


def test_every_exception_to_the_rule_is_still_one() -> None:
    templates = {case["template"] for case in CASES}
    assert templates >= REFUSED.keys() | ACCEPTED.keys()
    assert len(CASES) > 1000


def test_errors_point_at_the_fault(render: Any) -> None:
    for template, line, column in (
        ("ab\n  {{#if a}}x", 2, 3),
        ("{{#if a}}\n{{/unless}}", 2, 1),
        ("x {{a b=}}", 1, 9),
        ("\n\n{{nope 1}}", 3, 1),
        ("{{> nope}}", 1, 1),
        ("a\n{{b}}}", 2, 4),
    ):
        with pytest.raises(TemplateError) as caught:
            render(template)
        assert (caught.value.line, caught.value.column) == (line, column), template
