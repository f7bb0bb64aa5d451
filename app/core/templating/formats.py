"""Dates in the recipient's time zone, numbers and money in the recipient's locale, by Babel (Unicode CLDR)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from datetime import date as calendar_date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel import dates as babel_dates
from babel import numbers as babel_numbers

from .errors import RenderError
from .runtime import Run
from .values import text

_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,30}(?:/[A-Za-z0-9_+\-]{1,30}){0,2}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,2})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_WIDTHS = ("short", "medium", "long", "full")
_LARGEST = Decimal(10) ** 18


@lru_cache(maxsize=256)
def locale_of(name: str) -> Locale:
    """The Babel locale of a BCP 47 tag; what is unknown falls back to its language, then to English."""
    if _LOCALE.fullmatch(name):
        for candidate in (name.replace("-", "_"), name.replace("-", "_").split("_")[0]):
            try:
                return Locale.parse(candidate)
            except (ValueError, UnknownLocaleError):
                continue
    return Locale("en")


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name, or UTC."""
    if _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (ValueError, LookupError, OSError):
            pass
    return ZoneInfo("UTC")


def decimal(helper: str, value: Any) -> Decimal:
    """A number, or a text that is one, exactly. Anything else, and more than 10^18, raises RenderError."""
    kind = type(value)
    if kind is int and abs(value) <= _LARGEST:
        return Decimal(value)
    written = repr(value) if kind is float else value.strip() if isinstance(value, str) else ""
    try:
        result = Decimal(written) if _NUMBER.fullmatch(written) else None
    except InvalidOperation:
        result = None
    if result is None or abs(result) > _LARGEST:
        raise RenderError(f"{helper} was given something that is not a number, or too large")
    return result


def number(run: Run, value: Any, decimals: Any = None) -> str:
    """`1234.5` as `1,234.5`; `decimals` fixes the digits behind the point."""
    if value is None or value == "":
        return ""
    return _number(decimal("number", value), _digits("number", decimals), run.locale)


def percent(run: Run, value: Any, decimals: Any = None) -> str:
    """`0.25` as `25%`."""
    if value is None or value == "":
        return ""
    return _percent(decimal("percent", value), _digits("percent", decimals), run.locale)


def money(run: Run, amount: Any, currency: Any) -> str:
    """An amount in major units, with an ISO 4217 currency.

    `49.9` and `EUR` as `€49.90`. Without a currency, a number.
    """
    if amount is None or amount == "":
        return ""
    value = decimal("money", amount)
    if currency is None or currency == "":
        return _number(value, 2, run.locale)
    code = currency.upper() if isinstance(currency, str) and len(currency) == 3 else ""
    if not _CURRENCY.fullmatch(code):
        raise RenderError("money needs a currency of three letters, such as EUR")
    return _money(value, code, run.locale)


def date(run: Run, value: Any, style: Any = "medium") -> str:
    """The day of a time, in the recipient's time zone. A date without a time stays the day it is."""
    if value is None or value == "":
        return ""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return _day(_parsed("date", value), _style("date", style), run.locale)
    return _moment("date", run, value, style)


def time(run: Run, value: Any, style: Any = "short") -> str:
    """The time of day, in the recipient's time zone."""
    return "" if value is None or value == "" else _moment("time", run, value, style)


def date_time(run: Run, value: Any, style: Any = "medium") -> str:
    """Day and time, in the recipient's time zone."""
    return "" if value is None or value == "" else _moment("datetime", run, value, style)


def _digits(helper: str, decimals: Any) -> int | None:
    if decimals is not None and (type(decimals) is not int or not 0 <= decimals <= 12):
        raise RenderError(f"{helper} takes decimals from 0 to 12")
    return decimals


def _style(helper: str, style: Any) -> str:
    if not isinstance(style, str) or not 1 <= len(style) <= 64:
        raise RenderError(f"{helper} needs a format: short, medium, long, full, or a pattern such as d MMMM yyyy")
    return str(style)


def _parsed(helper: str, value: Any) -> datetime:
    """RFC 3339 text, or seconds (from 10^11 on: milliseconds) since 1970. Without an offset it is UTC."""
    try:
        if isinstance(value, str) and len(value) <= 40:
            moment = datetime.fromisoformat(value.strip())
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if type(value) is int or type(value) is float:
            return datetime.fromtimestamp(value / 1000 if abs(value) >= 10**11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise RenderError(f"{helper} was given something that is not a date: {text(value)[:40]}")


def _moment(helper: str, run: Run, value: Any, style: Any) -> str:
    return _formatted(helper, _parsed(helper, value), _style(helper, style), run.locale, run.time_zone)


@lru_cache(maxsize=4096)
def _formatted(helper: str, moment: datetime, style: str, locale: str, zone: str) -> str:
    where = locale_of(locale)
    try:
        local = moment.astimezone(zone_of(zone))
        if style not in _WIDTHS:
            return str(babel_dates.parse_pattern(style).apply(local, where))
        if helper == "date":
            return babel_dates.format_date(local, style, locale=where)
        if helper == "time":
            return babel_dates.format_time(local, style, tzinfo=local.tzinfo, locale=where)
        return babel_dates.format_datetime(local, style, tzinfo=local.tzinfo, locale=where)
    except (ValueError, OverflowError, LookupError, AttributeError, NotImplementedError) as error:
        raise RenderError(f"{helper} cannot write {moment.isoformat()} in the format {style}") from error


@lru_cache(maxsize=1024)
def _day(moment: datetime, style: str, locale: str) -> str:
    day, where = calendar_date(moment.year, moment.month, moment.day), locale_of(locale)
    try:
        if style in _WIDTHS:
            return babel_dates.format_date(day, style, locale=where)
        return str(babel_dates.parse_pattern(style).apply(day, where))
    except (ValueError, OverflowError, LookupError, AttributeError, NotImplementedError) as error:
        raise RenderError(f"date cannot write {day.isoformat()} in the format {style}") from error


@lru_cache(maxsize=4096)
def _number(value: Decimal, digits: int | None, locale: str) -> str:
    where = locale_of(locale)
    pattern = None if digits is None else "#,##0" + "." * (digits > 0) + "0" * digits
    if pattern is None:
        return babel_numbers.format_decimal(value, locale=where, decimal_quantization=False)
    return babel_numbers.format_decimal(value, pattern, locale=where)


@lru_cache(maxsize=4096)
def _percent(value: Decimal, digits: int | None, locale: str) -> str:
    pattern = str(locale_of(locale).percent_formats[None].pattern)
    if digits is not None:
        pattern = re.sub(r"0(?=[^0]*$)", "0" + "." * (digits > 0) + "0" * digits, pattern, count=1)
    return babel_numbers.format_percent(
        value, pattern, locale=locale_of(locale), decimal_quantization=digits is not None
    )


@lru_cache(maxsize=4096)
def _money(value: Decimal, currency: str, locale: str) -> str:
    return babel_numbers.format_currency(value, currency, locale=locale_of(locale))
