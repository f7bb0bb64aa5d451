"""What holds for every template and all data: three errors at most, and time that grows with the size and no faster."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.templating import RenderError, TemplateError, compile_message
from app.core.templating.scanner import Tag, Text, scan

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from("abcd"), inner, max_size=4)
    ),
    max_leaves=12,
)
PIECES = st.sampled_from(
    [
        "{{a}}",
        "{{{b}}}",
        "{{#if a}}",
        "{{/if}}",
        "{{else}}",
        "{{#each c}}",
        "{{/each}}",
        "{{@key}}",
        "{{../a}}",
        "{{! x }}",
        "\\{{",
        "{{json a}}",
        "{{date a}}",
        "{{money a b}}",
        "{{number c}}",
        "{{join c}}",
        "{{#d}}",
        "{{/d}}",
        "{{> p}}",
        "{{truncate a b}}",
        "~}}",
        "{{~",
        "{{pluralize a b}}",
        "{{percent a}}",
        "{{lookup a b}}",
        "{{#with a}}",
        "{{/with}}",
        "{{gt a b}}",
        "{{upper a}}",
        "\n",
        " ",
        "<p>",
        "}}",
    ]
)
TEMPLATES = st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]) | st.sampled_from("{}\\~!-#/ \n[\"'"), max_size=60))
def test_scanning_any_text_ends_in_tokens_that_lie_in_it_in_order(source: str) -> None:
    try:
        tokens = scan(source)
    except TemplateError as error:
        assert 1 <= error.line <= source.count("\n") + 1
        return
    position = -1
    for token in tokens:
        assert token.position > position
        position = token.position
        assert isinstance(token, Tag | Text)
        if isinstance(token, Text):
            assert source.startswith(token.text, token.position)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="{\0"), max_size=200))
def test_text_without_tags_comes_out_as_it_is(source: str) -> None:
    assert "".join(token.text for token in scan(source) if isinstance(token, Text)) == source


@settings(max_examples=250, deadline=None)
@given(TEMPLATES, st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4))
def test_rendering_raises_nothing_but_its_own_errors(source: str, data: dict[str, Any]) -> None:
    for channel, parts in (
        ("in_app", {"title": source, "text": source, "actionUrl": source}),
        ("email", {"subject": "s", "html": f"<style>p {{ color: red }}</style>{source}"}),
        ("webhook", {"payload": source}),
    ):
        try:
            result = compile_message(channel, parts, {"p": "({{a}})"}).render(data, locale="de", time_zone="Asia/Tokyo")
        except (TemplateError, RenderError) as error:
            assert error.part in (*parts, "text")
            continue
        assert all(type(text) is str for text in result.values())


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_a_payload_of_any_data_is_json(value: Any) -> None:
    message = compile_message(
        "webhook", {"payload": '{"inside": "{{x}}", "list": [{{#each l}}"{{this}}", {{/each}}1]}'}, {}
    )
    payload = json.loads(message.render({"x": value, "l": [value, value]})["payload"])
    assert payload.keys() == {"inside", "list"}
    assert len(payload["list"]) == 3


@pytest.mark.parametrize(
    "piece",
    ["x {{! c }}\n", "{{", "\\{{x ", "  \n", "{{!--", "{{{{raw}}}} ", "\\\\", "{{#if a}}{{/if}}\n", "[", "{{~a~}}  "],
)
def test_scanning_takes_time_in_proportion_to_the_size(piece: str) -> None:
    def seconds(length: int) -> float:
        source = (piece * length)[:length]
        best = 60.0
        for _ in range(3):
            start = time.thread_time()
            with contextlib.suppress(TemplateError):
                scan(source)
            best = min(best, time.thread_time() - start)
        return best

    # Twenty times the text: a quadratic scanner would take four hundred times as long.
    assert seconds(180_000) < 100 * seconds(9_000) + 0.05
