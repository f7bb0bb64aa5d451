"""Finding a person's words in texts and JSON, and taking them out.

The database looks for a word anywhere, in any case, which finds too much; what is taken out is decided here. A word is
only somebody's where it stands by itself: `ann@example.com` is not in `joann@example.com`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Text, cast, func, or_

ERASED = "[erased]"
_LEAST = 8  # characters of a user id that is looked for: shorter ones may mean anything
# What ends in a letter or digit and yet is a sign: an escape in a URL or in JSON.
_ESCAPED = r"(?<=%[0-9a-f]{2})|(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{4})"
_MAIL = rf"(?:(?<![\w.+-])|{_ESCAPED})(?:{{}})(?![^\W_]|-\w|\.[^\W_])"
_PHONE = r"(?<!\d)(?:{})(?!\d)"
_ID = rf"(?:(?<![\w.@+-])|{_ESCAPED})(?:{{}})(?![\w@+-]|\.\w)"
_QUOTED = r'(?<=")(?:{})(?=\\*"(?!\s*:))'  # a value in a text that is JSON, not a name


def words_of(user_id: str, *known: str | None) -> tuple[str, ...]:
    """What to look for in texts: a person's addresses and numbers, and their user id if it is long enough."""
    wanted = [user_id if len(user_id) >= _LEAST else None, *known]
    return tuple(dict.fromkeys(word for word in wanted if word))


def holds(columns: Iterable[Any], words: Sequence[str]) -> ColumnElement[bool]:
    """A condition: one of the words may stand in one of these columns, of text or JSON.

    In any case, as far as the database knows one: SQLite, and PostgreSQL in the locale C, know that of ASCII only.
    """
    spellings = {spelling.lower() for word in words for spelling in (*_spellings(word), *_in_json(_in_json(word)[1]))}
    return or_(
        *(
            func.lower(cast(column, Text)).contains(spelling, autoescape=True)
            for column in columns
            for spelling in sorted(spellings)
        ),
        *(
            cast(column, Text).contains(spelling, autoescape=True)
            for column in columns
            for word in words
            for spelling in _spellings(word)
            if not spelling.isascii()
        ),
    )


def is_listed(column: Any, user_id: str) -> ColumnElement[bool]:
    """A condition: this user id may stand in a list in this column, as JSON spells it."""
    forms = {json.dumps(user_id), json.dumps(user_id, ensure_ascii=False)}
    return or_(*(cast(column, Text).contains(form, autoescape=True) for form in sorted(forms)))


def _spellings(word: str) -> tuple[str, ...]:
    """A word as it is, and as JSON or a URL may spell it."""
    return tuple(dict.fromkeys((*_in_json(word), quote(word, safe=""))))


def _in_json(word: str) -> tuple[str, ...]:
    return word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1]


@dataclass(frozen=True, slots=True)
class _Search:
    """`anywhere`: within texts; `whole`: a text that is nothing else; `named`: a name in JSON that is nothing else."""

    anywhere: re.Pattern[str]
    whole: re.Pattern[str]
    named: re.Pattern[str]


@lru_cache(maxsize=64)
def _search(words: tuple[str, ...]) -> _Search:
    telling = [word for word in words if _form(word) is not _QUOTED]
    return _Search(
        _pattern(_form(word).replace("{}", _either(_spellings(word))) for word in words),
        _pattern(map(re.escape, words)),
        _pattern(map(re.escape, telling)),
    )


def _form(word: str) -> str:
    """How a word stands by itself. A user id that might be any word of the language is only looked for as a value."""
    if "@" in word:
        return _MAIL
    if re.fullmatch(r"\+\d+", word):
        return _PHONE
    return _ID if re.search(r"\d", word) else _QUOTED


def _either(spellings: Iterable[str]) -> str:
    return "|".join(map(re.escape, spellings))


def _pattern(parts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def is_told_by(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in a text."""
    return bool(cleaned(text, words) != text)


def cleaned(value: Any, words: Sequence[str]) -> Any:
    """The same text or JSON without the words; an item of a list that is one of them goes.

    Names in JSON stay, unless a name is an address, a number, or a user id that has a digit.
    """
    return _cleaned(value, _search(tuple(words))) if words else value


def _cleaned(value: Any, search: _Search) -> Any:
    if isinstance(value, str):
        return ERASED if search.whole.fullmatch(value) else search.anywhere.sub(ERASED, value)
    if isinstance(value, list):
        return [
            _cleaned(item, search) for item in value if not (isinstance(item, str) and search.whole.fullmatch(item))
        ]
    if isinstance(value, dict):
        return {_name(name, search): _cleaned(item, search) for name, item in value.items()}
    return value


def _name(name: str, search: _Search) -> str:
    return ERASED if search.named.fullmatch(name) else name
