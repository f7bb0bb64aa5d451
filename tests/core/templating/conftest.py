"""Rendering one template by itself, with any JSON value as its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from app.core.templating import escaping
from app.core.templating.library import Clock, Sources
from app.core.templating.runtime import Data, Frame, Run, written

Render = Callable[..., str]


def render_one(
    template: str, data: Any = None, partials: Mapping[str, str] | None = None, *, escape: bool = True, **run: str
) -> str:
    """What the template writes, with HTML escaping unless told otherwise."""
    emit = Sources(partials or {}, escaping.html if escape else None, True, Clock()).template(template)
    context = {} if data is None else data
    return written(emit, Frame(context, None, Data({"root": context}, None, None), (), {}, Run(**run)))


@pytest.fixture(scope="session")
def render() -> Render:
    return render_one
