"""What people want to hear, on which channel, and who decided it: the person, the tenant, or nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from app import rows
from app.clock import Clock
from app.core.names import CATEGORY_FORM, is_category
from app.db import Transaction
from app.errors import ConflictError, InvalidError, NotFoundError, refuse
from app.ids import new_id
from app.models import Preference, Rule, Tenant

ALL = "*"
CHANNELS = ("email", "sms", "in_app")
CHANNEL_FAULT = "is none of email, sms, in_app (webhooks go to services and ask no person)"
MAX_CATEGORIES = 200
MAX_ITEMS = MAX_CATEGORIES * len(CHANNELS)  # of one request

Wishes = Mapping[tuple[str, str], bool]
"""(category, channel) -> yes or no."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a channel may be used, and which level said so: critical, person (this category), person_all ("*"),
    tenant, tenant_all or default.
    """

    enabled: bool
    decided_by: str


class Choices:
    """The choices of some people of one tenant, and the tenant's defaults. Nothing is read while it decides."""

    def __init__(self, people: Mapping[str, Wishes], defaults: Wishes) -> None:
        self._people = people
        self._defaults = defaults

    def allows(self, user_id: str, category: str, channel: str, *, critical: bool = False) -> Decision:
        """Whether this person may be told of `category` on `channel`. The nearest choice wins; none means yes."""
        if critical:
            return Decision(True, "critical")
        own = self._people.get(user_id, {})
        levels = (
            ("person", own, category),
            ("person_all", own, ALL),
            ("tenant", self._defaults, category),
            ("tenant_all", self._defaults, ALL),
        )
        for name, wishes, wanted in levels:
            enabled = wishes.get((wanted, channel))
            if enabled is not None:
                return Decision(enabled, name)
        return Decision(True, "default")


def load(session: Transaction, tenant_id: str, user_ids: Iterable[str]) -> Choices:
    """The choices of these people: one query for all of them, one for the defaults."""
    names = ("user_id", "category", "channel", "enabled")
    people: dict[str, dict[tuple[str, str], bool]] = {}
    for row in rows.of_people(session, Preference, names, tenant_id, user_ids):
        people.setdefault(row.user_id, {})[row.category, row.channel] = row.enabled
    return Choices(people, _flat(defaults(session, tenant_id)))


def put(session: Session, clock: Clock, tenant_id: str, user_id: str, items: Sequence[Mapping[str, Any]]) -> None:
    """Set a person's choices: [{category, channel, enabled}]. Null takes a choice back; others stay as they are.

    Raises InvalidError naming `items.<index>.<field>`. Of two items for the same thing the later counts.
    """
    wishes = _checked(items)
    for (category, channel), enabled in wishes.items():
        if enabled is None:
            _forget(session, tenant_id, user_id, category, channel)
    kept: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "tenant_id": tenant_id,
            "user_id": user_id,
            "category": category,
            "channel": channel,
            "enabled": enabled,
            "updated_at": clock.now(),
        }
        for (category, channel), enabled in sorted(wishes.items())
        if enabled is not None
    ]
    rows.insert(session, Preference, kept)
    for row in kept:
        session.execute(
            update(Preference)
            .where(*_choice(tenant_id, user_id, row["category"], row["channel"]))
            .where(Preference.enabled != row["enabled"])
            .values(enabled=row["enabled"], updated_at=row["updated_at"])
        )
    _refuse_hoard(session, tenant_id, user_id)


def effective(session: Session, tenant_id: str, user_id: str) -> list[dict[str, Any]]:
    """What counts for a person: [{category, channel, enabled, decidedBy}] for "*" and for every category known from
    rules, the tenant's defaults and the person's own choices, on every channel that reaches people.
    """
    choices = load(session, tenant_id, [user_id])
    own = select(Preference.category).where(Preference.tenant_id == tenant_id, Preference.user_id == user_id)
    ruled = select(Rule.category).where(Rule.tenant_id == tenant_id)
    categories = {ALL, *defaults(session, tenant_id), *session.scalars(own), *session.scalars(ruled)}
    answer = []
    for category in sorted(categories):
        for channel in CHANNELS:
            decision = choices.allows(user_id, category, channel)
            answer.append(
                {
                    "category": category,
                    "channel": channel,
                    "enabled": decision.enabled,
                    "decided_by": decision.decided_by,
                }
            )
    return answer


def defaults(session: Transaction, tenant_id: str) -> dict[str, dict[str, bool]]:
    """The tenant's defaults: {category: {channel: yes or no}}."""
    return session.execute(_DEFAULTS, {"tenant": tenant_id}).scalar() or {}


def default_items(session: Session, tenant_id: str) -> list[dict[str, Any]]:
    """The tenant's defaults as `put_defaults` takes them, in order."""
    wishes = sorted(_flat(defaults(session, tenant_id)).items())
    return [{"category": category, "channel": channel, "enabled": on} for (category, channel), on in wishes]


def put_defaults(session: Session, tenant_id: str, items: Sequence[Mapping[str, Any]]) -> None:
    """Replace the tenant's defaults by [{category, channel, enabled}]; null is the same as leaving it out."""
    found: dict[str, dict[str, bool]] = {}
    for (category, channel), enabled in sorted(_checked(items).items()):
        if enabled is not None:
            found.setdefault(category, {})[channel] = enabled
    if len(found) > MAX_CATEGORIES:
        raise InvalidError({"items": f"names more than {MAX_CATEGORIES} categories"})
    changed = session.execute(update(Tenant).where(Tenant.id == tenant_id).values(preference_defaults=found))
    if not changed.rowcount:  # type: ignore[attr-defined]
        raise NotFoundError("There is no such tenant.")


def _refuse_hoard(session: Session, tenant_id: str, user_id: str) -> None:
    """People write these themselves, so there is an end to them."""
    own = select(func.count()).where(Preference.tenant_id == tenant_id, Preference.user_id == user_id)
    if (session.scalar(own) or 0) > MAX_CATEGORIES * len(CHANNELS):
        raise ConflictError(f"A person may choose for {MAX_CATEGORIES} categories at most.", code="too_many")


_DEFAULTS = select(Tenant.preference_defaults).where(Tenant.id == bindparam("tenant"))


def _flat(found: Mapping[str, Mapping[str, bool]]) -> Wishes:
    return {(category, channel): on for category, channels in found.items() for channel, on in channels.items()}


def _checked(items: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], bool | None]:
    refuse(faults(items))
    return {(item["category"], item["channel"]): item["enabled"] for item in items}


def faults(items: Sequence[Mapping[str, Any] | None]) -> dict[str, str]:
    """What is wrong with those fields of the items that are there: {`items.<index>.<field>`: why}."""
    if len(items) > MAX_ITEMS:
        return {"items": f"holds more than {MAX_ITEMS} items"}
    found: dict[str, str] = {}
    for index, item in enumerate(items):
        given = item or {}
        if given.get("category", ALL) != ALL and not is_category(given["category"]):
            found[f"items.{index}.category"] = f'is neither "{ALL}" nor {CATEGORY_FORM}'
        if given.get("channel", CHANNELS[0]) not in CHANNELS:
            found[f"items.{index}.channel"] = CHANNEL_FAULT
    return found


def _choice(tenant_id: str, user_id: str, category: str, channel: str) -> tuple[Any, ...]:
    return (
        Preference.tenant_id == tenant_id,
        Preference.user_id == user_id,
        Preference.category == category,
        Preference.channel == channel,
    )


def _forget(session: Session, tenant_id: str, user_id: str, category: str, channel: str) -> None:
    session.execute(delete(Preference).where(*_choice(tenant_id, user_id, category, channel)))
