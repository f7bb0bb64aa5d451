"""Faults planted into the worker, one for each law that keeps messages from being lost or doubled.

A chaos run with one of them must fail: that is what shows that a run without them means something. Each takes a law
out of the product's own statements; when the product has changed so that it is not found there, planting fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from app.core import sweeps
from app.core.deliveries import claims, outcome

_READ_TO_UPDATE_SECONDS = 0.05


def plant(name: str) -> None:
    """Plant one of PLANTED into this process; "none": nothing. Raises KeyError, or RuntimeError (see the module)."""
    if name != "none":
        PLANTED[name]()


def _cut(module: ModuleType, name: str, old: str, new: str) -> None:
    """Change the text of a statement."""
    text = getattr(module, name)
    if old not in text:
        raise RuntimeError(f"{module.__name__}.{name} has no {old!r} any more: the sabotage must be brought up to date")
    setattr(module, name, text.replace(old, new))


def _claim_by_reading() -> None:
    """Read what is pending, and a little later take it: without a lock, and without looking again."""
    _cut(claims, "_TAKE", " AND status = 'pending'", "")
    _cut(claims, "_DUE", "{lock}", "")
    take: Callable[..., Any] = claims.claim_these

    def take_later(*args: Any, **kwargs: Any) -> Any:
        time.sleep(_READ_TO_UPDATE_SECONDS)
        return take(*args, **kwargs)

    claims.claim_these = take_later


def _no_sweep() -> None:
    """What a dead worker held stays with it, and what no ring told of is not found."""
    sweeps.sweep = lambda runtime: None  # noqa: ARG005


def _no_fencing() -> None:
    """Results are written by the delivery's id alone, a late failure over an earlier success."""
    for name in ("_ACCEPTED", "_REFUSED"):
        _cut(outcome, name, "AND notification_logs.attempt = r.attempt", "")
    _cut(outcome, "_REFUSED", "AND notification_logs.status IN ('sending', 'pending')", "")


PLANTED: dict[str, Callable[[], None]] = {"claim": _claim_by_reading, "sweep": _no_sweep, "fencing": _no_fencing}
