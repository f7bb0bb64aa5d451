"""Before anything is read or written, the Idempotency-Key included: whether more is taken in (core.admission)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Flask, current_app, request

from app.core.admission import Admission, OverloadedError, Pressed, SilentDatabaseError
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.entrypoints.api import once
from app.entrypoints.api.common import caller, runtime
from app.metrics import ADMISSION_REFUSED

_EXTENSION = "tidings.admission"
View = TypeVar("View", bound=Callable[..., Any])


def install(app: Flask, runtime: Runtime) -> None:
    """Give the application its own."""
    app.extensions[_EXTENSION] = Admission(runtime)


def look() -> None:
    """For every request under /api, before the database is asked who it is: refused while nobody answers there."""
    try:
        _own().look()
    except SilentDatabaseError:
        ADMISSION_REFUSED.labels("any", Pressed.DATABASE.value).inc()
        raise


def admits(lanes_of: Callable[[Any], Iterable[Lane]]) -> Callable[[View], View]:
    """For a route that takes work in: put it between `arguments` and `creates`. `lanes_of` the loaded body."""

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapper(body: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                _own().judge(lanes_of(body), caller().tenant_id)
            except OverloadedError as refusal:
                # What was taken in before is answered as it was: told that it was refused, a caller might post it anew.
                blind = refusal.why is Pressed.DATABASE
                if blind or not once.was_done(runtime(), once.asked(caller(), request)):
                    ADMISSION_REFUSED.labels(refusal.lane.value, refusal.why.value).inc()
                    raise
            return view(body, *args, **kwargs)

        return cast(View, wrapper)

    return decorator


def _own() -> Admission:
    return cast(Admission, current_app.extensions[_EXTENSION])
