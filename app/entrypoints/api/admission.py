"""Before anything of a post is written, the Idempotency-Key included: whether more is taken in (core.admission)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Flask, current_app

from app.core.admission import Admission
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.entrypoints.api.common import caller

_EXTENSION = "tidings.admission"
View = TypeVar("View", bound=Callable[..., Any])


def install(app: Flask, runtime: Runtime) -> None:
    """Give the application its own."""
    app.extensions[_EXTENSION] = Admission(runtime)


def admits(lanes_of: Callable[[Any], Iterable[Lane]]) -> Callable[[View], View]:
    """For a route that takes work in: put it between `arguments` and `creates`. `lanes_of` the loaded body."""

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapper(body: Any, *args: Any, **kwargs: Any) -> Any:
            admission = cast(Admission, current_app.extensions[_EXTENSION])
            admission.judge(lanes_of(body), caller().tenant_id)
            return view(body, *args, **kwargs)

        return cast(View, wrapper)

    return decorator
