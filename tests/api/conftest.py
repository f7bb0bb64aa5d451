"""What tests of the doors share beyond tests/conftest.py."""

from __future__ import annotations

import pytest

from app import readiness


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's process that is held up for seconds is no database or Redis that does not answer."""
    monkeypatch.setattr(readiness, "_DATABASE_SECONDS", 60.0)
    monkeypatch.setattr(readiness, "_SECONDS", 60.0)
