"""Telephone numbers: one accepted form, and a way to bring others into it."""

from __future__ import annotations

import re

import phonenumbers

from providers.contract import PermanentError

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def is_e164(number: str) -> bool:
    """True for `+` and 7 to 15 digits, the first not 0."""
    return _E164.fullmatch(number) is not None


def normalise(number: str, region: str | None = None) -> str:
    """The number in E.164. `region` (two letters, as `DE`) is where a number without `+` belongs.

    Only the form is brought in order; whether the number exists is the carrier's to say. Raises
    PermanentError(invalid_number).
    """
    if is_e164(number):
        return number
    try:
        parsed = phonenumbers.parse(number[:64], region)
    except phonenumbers.NumberParseException:
        raise invalid_number() from None
    found = str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
    if not is_e164(found):
        raise invalid_number()
    return found


def invalid_number() -> PermanentError:
    """The error for what is no telephone number. Its text does not repeat it."""
    return PermanentError("invalid_number", "not a telephone number in the form +<country><number>")
