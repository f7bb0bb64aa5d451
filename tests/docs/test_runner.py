"""The runner of the pages' examples itself: what it must find, and what it must let pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.examples import Step, blocks, differences

ANSWER = (
    '{"id": "01a1f7d5-723d-7198-ab4b-4f61f6121dbf", "status": "sent", "items": [{"n": 1}, {"n": 2}], "durationMs": 3.1}'
)


@pytest.mark.parametrize(
    "shown",
    [
        ANSWER,
        ANSWER.replace("01a1f7d5", "00000000").replace("3.1", "77"),
        '{\n"status": "sent",\n…\n}',
        '{"status": "sent", "items": [\n…\n],\n…\n}',
        '{"items": [{"n": 1},\n…\n],\n…\n}',
    ],
)
def test_what_may_differ_passes(shown: str) -> None:
    assert differences(shown, ANSWER) == []


@pytest.mark.parametrize(
    "shown",
    [
        ANSWER.replace("sent", "failed"),
        ANSWER.replace('"status"', '"state"'),
        ANSWER.replace(', "durationMs": 3.1', ""),
        ANSWER.replace('{"n": 2}', '{"n": "2"}'),
        ANSWER.replace(', {"n": 2}', ""),
        ANSWER.replace('[{"n": 1}, {"n": 2}]', '[{"n": 2}, {"n": 1}]'),
        '{"items": [{"n": 3},\n…\n],\n…\n}',
        '{\n"error": null,\n…\n}',
        ANSWER.replace("01a1f7d5-723d-7198-ab4b-4f61f6121dbf", "1"),
        "not JSON at all",
    ],
)
def test_what_is_shown_and_is_not_so_is_found(shown: str) -> None:
    assert differences(shown, ANSWER)


def test_items_may_come_in_any_order_where_the_page_says_so() -> None:
    turned = ANSWER.replace('[{"n": 1}, {"n": 2}]', '[{"n": 2}, {"n": 1}]')

    assert differences(turned, ANSWER, any_order=True) == []
    assert differences(turned.replace('"n": 1', '"n": 3'), ANSWER, any_order=True)


def test_text_is_held_line_by_line() -> None:
    said = "Listening on http://127.0.0.1:9000/\n01a1f7d5-723d-7198-ab4b-4f61f6121dbf  verified\n"

    assert differences("…\n00000000-723d-7198-ab4b-4f61f6121dbf  verified", said) == []
    assert differences("…\n01a1f7d5-723d-7198-ab4b-4f61f6121dbf  NOT VERIFIED", said)
    assert differences("Listening on http://127.0.0.1:9000/", said)


def test_a_page_s_comments_say_what_is_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- run: wait, ID=items.0.id -->\n```console\n$ one \\\n    --two '{\n  \"a\": 1}'\n{}\n$ three\n```\n"
        "<!-- not run: why -->\n```bash\nfour\n```\n\n```console\n$ five\n```\n"
    )

    first, second, third = blocks(page)

    assert (first.run, second.run, third.run) == (True, False, None)
    assert (first.kept, "wait" in first.words) == ({"ID": "items.0.id"}, True)
    assert first.steps == [Step("one \\\n    --two '{\n  \"a\": 1}'", "{}"), Step("three", "")]
