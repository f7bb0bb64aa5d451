"""Finding a person's words in texts and JSON, and taking them out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, or_

ERASED = "[erased]"
_LEAST = 8  # characters of a user id that is looked for in texts: shorter ones may mean anything


def words_of(user_id: str, *known: str | None) -> tuple[str, ...]:
    """What to look for in texts: a person's addresses and numbers, and their user id if it is long enough."""
    wanted = [user_id if len(user_id) >= _LEAST else None, *known]
    return tuple(dict.fromkeys(word for word in wanted if word))


def holds(columns: Iterable[Any], words: Sequence[str]) -> ColumnElement[bool]:
    """A condition: one of the words stands in one of these columns, of text or JSON, in any case."""
    spellings = {spelling.lower() for word in words for spelling in _in_json(word)}
    return or_(
        *(
            func.lower(cast(column, Text)).contains(spelling, autoescape=True)
            for column in columns
            for spelling in sorted(spellings)
        )
    )


def _in_json(word: str) -> tuple[str, ...]:
    """A word as it is, and as JSON may spell it."""
    return word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1]


def cleaned(value: Any, words: Sequence[str]) -> Any:
    """The same text or JSON without the words; an item of a list that is one of them goes."""
    if not words:
        return value
    return _cleaned(value, re.compile("|".join(re.escape(word) for word in words), re.IGNORECASE))


def _cleaned(value: Any, words: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return words.sub(ERASED, value)
    if isinstance(value, list):
        return [_cleaned(item, words) for item in value if not (isinstance(item, str) and words.fullmatch(item))]
    if isinstance(value, dict):
        return {words.sub(ERASED, name): _cleaned(item, words) for name, item in value.items()}
    return value
