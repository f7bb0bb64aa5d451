"""A message's parts: what is required, how each is escaped and finished, and whose mistake an error is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from app.core.templating import PARTS, RenderError, TemplateError, compile_message

NASTY = "<b>\"'`=&\\\n\r\x00\u2028 {{x}}"


def test_only_html_is_escaped_and_only_for_html() -> None:
    email = compile_message("email", {"subject": "{{x}}", "text": "{{x}}", "html": '<p title="{{x}}">{{x}}</p>'}, {})
    result = email.render({"x": "<b>\"'`=&"})
    assert result["subject"] == "<b>\"'`=&"
    assert result["text"] == "<b>\"'`=&"
    escaped = "&lt;b&gt;&quot;&#x27;&#x60;&#x3D;&amp;"
    assert result["html"] == f'<p title="{escaped}">{escaped}</p>'
    assert compile_message("sms", {"text": "{{x}}"}, {}).render({"x": "<&>"}) == {"text": "<&>"}
    in_app = compile_message("in_app", {"title": "{{x}}", "text": "{{x}}"}, {})
    assert in_app.render({"x": "<&>"}) == {"title": "<&>", "text": "<&>"}


def test_a_subject_and_a_title_are_one_line() -> None:
    email = compile_message("email", {"subject": "Hi\n{{x}}\r\nBcc: all", "text": "t"}, {})
    assert (
        email.render({"x": "a\r\nBcc: b@example.org\x00\x0b\u2028c"})["subject"] == "Hi a Bcc: b@example.org c Bcc: all"
    )
    in_app = compile_message("in_app", {"title": " a\n\n{{x}} "}, {})
    assert in_app.render({"x": "\x1b[31mred"}) == {"title": "a [31mred"}


@pytest.mark.parametrize("value", [NASTY, "\ud800", '", "admin": true, "y": "', "}", 5, True, None, [1], {"a": 1}])
def test_data_cannot_leave_the_json_string_it_stands_in(value: Any) -> None:
    message = compile_message("webhook", {"payload": '{"a": "{{x}}", "b": {{json x}}, "c": "-{{x}}-"}'}, {})
    payload = json.loads(message.render({"x": value})["payload"])
    assert payload.keys() == {"a", "b", "c"}
    assert payload["b"] == value
    if isinstance(value, str):
        assert payload["a"] == value


@pytest.mark.parametrize("source", ['{"a": "{{{x}}}"}', '{"a": "{{&x}}"}', '{"a": "{{{upper x}}}"}'])
def test_a_payload_takes_no_unescaped_value(source: str) -> None:
    with pytest.raises(TemplateError, match="payload") as caught:
        compile_message("webhook", {"payload": source}, {})
    assert caught.value.part == "payload"


@pytest.mark.parametrize(
    "source", ["{{x}}", '{"a": {{x}} }', '{"a": NaN}', '{"a": 1,}', "", '{"a": "{{json x}}"}', "[" * 10_000]
)
def test_a_payload_that_is_not_json_is_a_render_error(source: str) -> None:
    with pytest.raises(RenderError, match="not valid JSON") as caught:
        compile_message("webhook", {"payload": source}, {}).render({"x": "a b"})
    assert caught.value.part == "payload"


@pytest.mark.parametrize(
    "url", ["/a", "/a?b=c#d", "https://x.example/a", "http://x.example", " /a\n", "https://x.example/%20"]
)
def test_an_action_url_may_be_relative_or_http(url: str) -> None:
    message = compile_message("in_app", {"title": "t", "actionUrl": "{{url}}"}, {})
    assert message.render({"url": url})["actionUrl"] == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "a/b",
        "https:evil",
        "https://",
        "ftp://x.example",
        "/\tjavascript",
        "java\nscript:x",
        "http://[::1",
        "mailto:a@b.example",
    ],
)
def test_any_other_action_url_is_refused(url: str) -> None:
    message = compile_message("in_app", {"title": "t", "actionUrl": "{{url}}"}, {})
    with pytest.raises(RenderError) as caught:
        message.render({"url": url})
    assert caught.value.part == "actionUrl"


def test_an_empty_action_url_is_left_out() -> None:
    message = compile_message("in_app", {"title": "t", "actionUrl": "{{url}}\n"}, {})
    assert message.render({}) == {"title": "t"}


@pytest.mark.parametrize(
    ("channel", "parts", "part"),
    [
        ("email", {"subject": "s"}, "text"),
        ("email", {"text": "t"}, "subject"),
        ("email", {"subject": "s", "text": "t", "body": "b"}, "body"),
        ("sms", {}, "text"),
        ("webhook", {}, "payload"),
        ("in_app", {"text": "t"}, "title"),
        ("fax", {"text": "t"}, None),
    ],
)
def test_missing_and_unknown_parts_are_refused(channel: str, parts: dict[str, str], part: str | None) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_message(channel, parts, {})
    assert caught.value.part == part


def test_a_fault_names_its_part_partial_line_and_column() -> None:
    with pytest.raises(TemplateError) as caught:
        compile_message("email", {"subject": "s", "html": "{{> partials/a}}"}, {"partials/a": "x\n {{nope 1}}"})
    error = caught.value
    assert (error.part, error.partial, error.line, error.column) == ("html", "partials/a", 2, 2)
    assert str(error) == "There is no helper called nope (html, partial partials/a, line 2, column 2)"


def test_an_unused_partial_is_not_compiled_and_an_unknown_one_is_refused() -> None:
    assert compile_message("sms", {"text": "x"}, {"broken": "{{#if"}).render({}) == {"text": "x"}
    for source in ("{{> nope}}", "{{#if a}}{{> nope}}{{/if}}", "{{> p}}"):
        with pytest.raises(TemplateError, match="no partial called nope"):
            compile_message("sms", {"text": source}, {"p": "{{> nope}}"})


def test_a_partial_named_by_data_fails_only_when_rendered() -> None:
    message = compile_message(
        "sms", {"text": "{{> (lookup . 'n')}}"}, {"good": "g", "broken": "{{#if", "deep": "{{> gone}}"}
    )
    assert message.render({"n": "good"}) == {"text": "g"}
    for name in ("broken", "deep", "nope", "../../etc/passwd", None):
        with pytest.raises(RenderError):
            message.render({"n": name})
    assert message.render({"n": "good"}) == {"text": "g"}


def test_the_same_message_is_compiled_once_and_another_is_another() -> None:
    parts, partials = {"text": "{{> p}}{{x}}"}, {"p": "1"}
    first = compile_message("sms", parts, partials)
    assert compile_message("sms", dict(parts), dict(partials)) is first
    assert compile_message("sms", parts, {"p": "2"}).render({}) == {"text": "2"}
    assert first.render({}) == {"text": "1"}


def test_the_cache_is_bounded() -> None:
    from app.core.templating.message import _Cache, _cache

    for number in range(700):
        compile_message("sms", {"text": f"text {number}"}, {})
    assert isinstance(_cache, _Cache)
    assert len(_cache._found) <= 500


def test_data_is_never_changed_by_rendering() -> None:
    data = {"l": [{"a": 1}], "m": {"b": [2]}}
    before = json.dumps(data)
    source = "{{#each l}}{{> p c=3}}{{/each}}{{#with m}}{{#each b as |x|}}{{x}}{{@index}}{{/each}}{{/with}}"
    assert compile_message("sms", {"text": source}, {"p": "{{a}}{{c}}"}).render(data) == {"text": "1320"}
    assert json.dumps(data) == before


def test_every_channel_names_its_parts() -> None:
    assert set(PARTS) == {"email", "sms", "webhook", "in_app"}


def test_the_first_template_of_a_process_is_not_charged_for_loading_the_grammar() -> None:
    # Given a process that has read no template yet, and less time than loading the grammar takes
    said = """
import sys
from app.core.templating import compile_message, limits
assert "app.core.templating.syntax" not in sys.modules
limits.COMPILE_SECONDS = 0.15
print(compile_message("sms", {"text": "Hello " + 99 * "{{name}}"}, {}).render({"name": "!"})["text"])
"""

    # When it reads one, Then it is read
    process = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True)
    assert process.stdout == f"Hello {99 * '!'}\n", process.stderr
