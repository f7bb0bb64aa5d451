"""What tests of the core share beyond tests/conftest.py."""

from __future__ import annotations

import math

import pytest

from app.core.deliveries import births, plan


@pytest.fixture
def whole_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction plans a whole page and finds the bell's words, however long that takes on a busy machine."""
    monkeypatch.setattr(plan, "PLAN_SECONDS", math.inf)
    monkeypatch.setattr(births, "TELLING_SECONDS", math.inf)
