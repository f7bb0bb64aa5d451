"""Health, readiness and metrics."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app import create_app, make_runtime
from app.config import Settings
from app.core import sweeps
from app.core.runtime import Runtime
from app.models.base import utc_text
from app.tenancy import Purpose, system


def made(tmp_path: Path, template: Path | None, **values: Any) -> Runtime:
    path = tmp_path / "t.db"
    if template:
        shutil.copy(template, path)
    url = values.pop("database_url", f"sqlite:///{path}")
    return make_runtime(Settings(database_url=url, secret_key="s" * 40, data_dir=tmp_path, **values))


def test_a_working_service_is_live_and_ready(client: Any, runtime: Runtime) -> None:
    sweeps.sweep(runtime)
    assert client.get("/health/live").json == {"status": "ok"}
    for _ in range(2):
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json["status"]) == (200, "ok")
        assert set(ready.json["parts"].values()) == {"ok"}


def test_a_database_that_is_away_or_empty_is_named(tmp_path: Path) -> None:
    empty = create_app(runtime=made(tmp_path, None)).test_client().get("/health/ready")
    away = made(tmp_path, None, database_url="postgresql://nobody@127.0.0.1:1/none", redis_url="redis://127.0.0.1:1")
    client = create_app(runtime=away).test_client()
    gone = client.get("/health/ready")
    asked = client.get("/api/events", headers={"Authorization": "Bearer tdg_live_" + "k" * 40})

    assert (empty.status_code, empty.json["parts"]) == (503, {"database": "ok", "schema": "empty"})
    assert (gone.status_code, gone.json["parts"]) == (503, {"database": "unreachable", "redis": "unreachable"})
    assert client.get("/health/live").status_code == 200
    assert (asked.status_code, asked.json["code"]) == (503, "database_unavailable")
    assert int(asked.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in asked.text


def test_redis_may_be_away(tmp_path: Path, sqlite_template: Path) -> None:
    client = create_app(runtime=made(tmp_path, sqlite_template, redis_url="redis://127.0.0.1:1")).test_client()

    ready = client.get("/health/ready")

    assert (ready.status_code, ready.json["status"]) == (200, "degraded")
    expected = {"database": "ok", "schema": "ok", "redis": "unreachable", "workers": "never seen"}
    assert ready.json["parts"] == expected


def test_workers_that_have_fallen_silent_are_named(client: Any, runtime: Runtime) -> None:
    sweeps.sweep(runtime)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        old = utc_text(datetime.now(UTC) - timedelta(hours=1))
        session.execute(text("UPDATE service_state SET measured_at = :old WHERE name = 'backlog'"), {"old": old})

    ready = client.get("/health/ready")

    assert (ready.status_code, ready.json["status"]) == (200, "degraded")
    assert ready.json["parts"]["workers"].startswith("silent for 36")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_metrics_are_for_this_machine_only(tmp_path: Path, sqlite_template: Path, name: str) -> None:
    client = create_app(runtime=made(tmp_path, sqlite_template)).test_client()

    here = client.get("/metrics")
    forwarded = client.get("/metrics", headers={name: "127.0.0.1"})
    elsewhere = client.get("/metrics", environ_overrides={"REMOTE_ADDR": "10.1.2.3"})

    assert here.status_code == 200
    assert "tidings_events_accepted" in here.text
    assert forwarded.status_code == elsewhere.status_code == 403


def test_metrics_by_token_from_anywhere(tmp_path: Path, sqlite_template: Path) -> None:
    client = create_app(runtime=made(tmp_path, sqlite_template, metrics_token="let me see")).test_client()
    far = {"REMOTE_ADDR": "10.1.2.3"}

    def status(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return int(client.get("/metrics", headers=headers, environ_overrides=far).status_code)

    assert (status("let me see"), status("guess"), status("ü"), status(None)) == (200, 401, 401, 401)
