"""The people who are told: saved by the API or with an event, and looked up many at a time."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import email_validator
from babel import Locale, UnknownLocaleError
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import TextClause, delete, select, text
from sqlalchemy.orm import Session

from app import rows
from app.clock import Clock
from app.db import Transaction
from app.errors import NotFoundError, refuse
from app.ids import new_id
from app.models import Recipient
from app.paging import Cursor, Page, page
from providers.contract import PermanentError
from providers.sms.numbers import normalise

# Whether root@localhost or ada@mail.local can be reached is for the mail server to say, not for a list.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

MAX_USER_ID = 255  # characters
MAX_NAME = 255  # characters
MAX_ATTRIBUTES = 16_384  # bytes of JSON

_OPTIONAL = ("name", "email", "phone", "locale", "time_zone", "attributes")
_TYPES = {"attributes": "jsonb"}


@dataclass(frozen=True, slots=True)
class Person:
    """A recipient as the work needs them. What is not known is None; `attributes` are free JSON."""

    user_id: str
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    attributes: Mapping[str, Any] | None = None


def load(session: Transaction, tenant_id: str, user_ids: Iterable[str]) -> dict[str, Person]:
    """These people by user id, in one query; who is not known is absent."""
    found = rows.of_people(session, Recipient, ("user_id", *_OPTIONAL), tenant_id, user_ids)
    return {row.user_id: Person(*row) for row in found}


def get(session: Session, tenant_id: str, user_id: str) -> Recipient:
    """One person's record. Raises NotFoundError."""
    found = find(session, tenant_id, user_id)
    if found is None:
        raise NotFoundError("There is no recipient with this user id.")
    return found


def find(session: Session, tenant_id: str, user_id: str) -> Recipient | None:
    """One person's record, if there is any."""
    query = select(Recipient).where(Recipient.tenant_id == tenant_id, Recipient.user_id == user_id)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def search(session: Session, tenant_id: str, cursor: Cursor) -> Page[Recipient]:
    """A tenant's people, those first who were saved last for the first time."""
    return page(session, select(Recipient).where(Recipient.tenant_id == tenant_id), Recipient.id, cursor)


def put(session: Session, clock: Clock, tenant_id: str, user_id: str, fields: Mapping[str, Any]) -> Recipient:
    """Save a person whole: what `fields` leaves out is cleared. Raises InvalidError."""
    whole = {**dict.fromkeys(_OPTIONAL), **fields, "user_id": user_id}
    _write(session, clock, tenant_id, [checked(whole)])
    return get(session, tenant_id, user_id)


def remove(session: Session, tenant_id: str, user_id: str) -> None:
    """Forget a person. Raises NotFoundError."""
    statement = delete(Recipient).where(Recipient.tenant_id == tenant_id, Recipient.user_id == user_id)
    if not session.execute(statement).rowcount:  # type: ignore[attr-defined]
        raise NotFoundError("There is no recipient with this user id.")


def upsert(session: Transaction, clock: Clock, tenant_id: str, people: Sequence[Mapping[str, Any]]) -> None:
    """Save people who came with an event: absent fields stay as they are, null clears, attributes are replaced whole.

    Keys: user_id, name, email, phone, locale, time_zone, attributes. A person named twice is merged, later over
    earlier. Raises InvalidError naming `recipients.<index>.<field>`.
    """
    merged: dict[str, dict[str, Any]] = {}
    for index, person in enumerate(people):
        clean = checked(person, f"recipients.{index}.")
        merged.setdefault(clean["user_id"], {}).update(clean)
    _write(session, clock, tenant_id, list(merged.values()))


def checked(fields: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The same fields in one spelling. Raises InvalidError with `path` before each camelCase field name."""
    clean, found = _judged(fields)
    refuse({path + name: why for name, why in found.items()})
    return clean


def faults(fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with these fields: {camelCase name: why}."""
    return _judged(fields)[1]


def _judged(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    clean: dict[str, Any] = {}
    found: dict[str, str] = {}
    for name, value in fields.items():
        try:
            clean[name] = None if value is None and name != "user_id" else _checked(name, value)
        except ValueError as error:
            found[_API_NAMES.get(name, name)] = str(error)
    return clean, found


def _checked(name: str, value: Any) -> Any:
    if name != "attributes" and not isinstance(value, str):
        raise ValueError("is not text")
    return _CHECKS[name](value)


@lru_cache(maxsize=16_384)
def email(address: str) -> str:
    """An email address in its usual spelling. Raises ValueError. Nothing is looked up: localhost will do."""
    try:
        found = validate_email(address, check_deliverability=False, globally_deliverable=False, allow_smtputf8=True)
    except EmailNotValidError as error:
        raise ValueError(f"is not an email address: {error}") from None
    return found.normalized


def _user_id(value: str) -> str:
    if not 1 <= len(value) <= MAX_USER_ID or not value.isprintable():
        raise ValueError(f"is not 1 to {MAX_USER_ID} printable characters")
    return value


def _name(value: str) -> str:
    if len(value) > MAX_NAME or not value.isprintable():
        raise ValueError(f"is not at most {MAX_NAME} printable characters")
    return value


def _phone(value: str) -> str:
    try:
        return normalise(value)
    except PermanentError:
        raise ValueError("is not a phone number such as +4915112345678") from None


@lru_cache(maxsize=1_024)
def _locale(value: str) -> str:
    """As BCP 47 writes it: de-AT. Underscores are taken too."""
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|\d{3}))?", value):
        raise ValueError("is not a locale such as de-AT")
    try:
        Locale.parse(value.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise ValueError("is a locale that is not known") from None
    return value.replace("_", "-")


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _time_zone(value: str) -> str:
    # A list, and not an attempt to open it: a name is a path to zoneinfo.
    if value not in _zones():
        raise ValueError("is not a time zone such as Europe/Vienna")
    return value


def _attributes(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    if len(rows.dumps(value).encode()) > MAX_ATTRIBUTES:
        raise ValueError(f"is more than {MAX_ATTRIBUTES} bytes of JSON")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "user_id": _user_id,
    "name": _name,
    "email": email,
    "phone": _phone,
    "locale": _locale,
    "time_zone": _time_zone,
    "attributes": _attributes,
}
_API_NAMES = {"user_id": "userId", "time_zone": "timeZone"}


def _write(session: Transaction, clock: Clock, tenant_id: str, people: Sequence[Mapping[str, Any]]) -> None:
    """Insert who is new, then set on everybody else the fields that were given and differ, whatever their number."""
    if not people:
        return
    now = clock.now()
    full = []
    # In one order everywhere, so that two batches with the same people wait for each other and do not lock up.
    for person in sorted(people, key=lambda item: str(item["user_id"])):
        row: dict[str, Any] = {"id": new_id(), "tenant_id": tenant_id, "created_at": now, "updated_at": now}
        row |= {"user_id": person["user_id"], **{name: person.get(name) for name in _OPTIONAL}}
        full.append(row | {"attributes": row["attributes"] or {}})
    given = {str(person["user_id"]): person for person in people}
    told = [
        row | {f"has_{name}": name in given[row["user_id"]] for name in _OPTIONAL}
        for row in _insert(session, full)
        if len(given[row["user_id"]]) > 1  # else there is nothing to set
    ]
    if not told:
        return
    parameters = {"rows": rows.dumps(told), "tenant_id": tenant_id, "now": rows.dumps(now).strip('"')}
    if rows.is_postgres(session) and len(told) > 1:
        rows.defer(session, _LOCK, parameters)
    rows.defer(session, _update(rows.is_postgres(session)), parameters)


def _insert(session: Transaction, full: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Insert those who are new. Returns those who may have been there: a single one is not waited for."""
    if len(full) == 1:
        rows.put(session, Recipient, full)
        return full
    new = set(rows.insert(session, Recipient, full))
    return [row for row in full if row["id"] not in new]


_LOCK = text(
    "SELECT id FROM recipients WHERE tenant_id = CAST(:tenant_id AS uuid) AND user_id IN"
    " (SELECT user_id FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(user_id text)) ORDER BY user_id FOR UPDATE"
)


@lru_cache(maxsize=2)
def _update(postgres: bool) -> TextClause:
    spec = [("user_id", "text")]
    for name in _OPTIONAL:
        spec += [(name, _TYPES.get(name, "text")), (f"has_{name}", "boolean")]
    sets = ", ".join(f"{name} = CASE WHEN r.has_{name} THEN r.{name} ELSE recipients.{name} END" for name in _OPTIONAL)
    differs = " OR ".join(f"(r.has_{name} AND recipients.{name} IS DISTINCT FROM r.{name})" for name in _OPTIONAL)
    # SQLite would go through all of a tenant's people for each that is given, so it is told the row of each.
    these = (
        "recipients.tenant_id = CAST(:tenant_id AS uuid) AND recipients.user_id = r.user_id"
        if postgres
        else "recipients.rowid = (SELECT one.rowid FROM recipients AS one"
        " WHERE one.tenant_id = :tenant_id AND one.user_id = r.user_id)"
    )
    now = "CAST(:now AS timestamptz)" if postgres else ":now"
    return text(
        f"UPDATE recipients SET {sets}, updated_at = {now} FROM {rows.source(spec, postgres)}"
        f" WHERE {these} AND ({differs})"
    )
