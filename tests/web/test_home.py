"""The welcome page."""

from __future__ import annotations

import dataclasses
import html
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from app import create_app
from app.config import Settings
from app.core.runtime import Runtime
from app.entrypoints.web.home import curl_line
from tests.conftest import KEY


def test_it_says_what_this_is_and_links_to_everything(client: Any) -> None:
    answer = client.get("/")

    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    for target in ("/docs", "/openapi.json", "/dev/outbox", "/health/ready"):
        assert f'href="{target}"' in answer.text
        assert client.get(target).status_code in (200, 308), target


def test_the_line_to_try_is_built_from_the_settings_and_never_from_the_host_header(
    client: Any, settings: Settings
) -> None:
    answer = client.get("/", headers={"Host": "evil.example"})

    assert answer.status_code == 200
    assert "evil" not in answer.text
    assert f"curl {settings.base_url}/api/events" in answer.text


def test_the_line_to_try_is_accepted_as_it_stands(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    words = shlex.split(curl_line(runtime.settings))
    body = words[words.index("-d") + 1]

    answer = client.post("/api/events", data=body, headers={**auth, "Content-Type": "application/json"})

    assert answer.status_code == 202, answer.text


def test_a_public_url_cannot_break_out_of_the_command_or_the_page(runtime: Runtime) -> None:
    settings = dataclasses.replace(runtime.settings, public_url="https://x.example/';id;'<script>")
    app = create_app(runtime=dataclasses.replace(runtime, settings=settings))

    page = app.test_client().get("/").text

    assert "<script>" not in page
    command = html.unescape(page.split("<code>curl ", 1)[1].split("</code>", 1)[0])
    assert shlex.split(command.replace("\\\n", ""))[0] == "https://x.example/';id;'<script>/api/events"


@pytest.mark.parametrize("host", ["tidings.example", "10.0.0.5", "localhost.example", ""])
def test_it_names_the_catcher_only_to_those_who_may_look_at_it(client: Any, host: str) -> None:
    assert "/dev/outbox" not in client.get("/", headers={"Host": host}).text


def test_no_secret_stands_on_it(client: Any, api_key: str, settings: Settings) -> None:
    page = client.get("/").text

    assert KEY not in page
    assert settings.secret_key not in page
    assert settings.database_url not in page


def test_nothing_comes_from_elsewhere_and_no_script_stands_in_the_page(client: Any) -> None:
    answer = client.get("/")

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert "style=" not in answer.text
    for attribute in ('src="http', 'src="//', 'rel="stylesheet" href="http'):
        assert attribute not in answer.text


@pytest.mark.parametrize("shape", ["production"])
def test_in_production_it_stands_without_the_catcher(client: Any) -> None:
    answer = client.get("/")

    assert answer.status_code == 200
    assert "outbox" not in answer.text.lower()


class TestBoundToTheNetwork:
    """Embedded, but reachable by others."""

    @pytest.fixture
    def make_settings(self) -> Callable[..., Settings]:
        return lambda **values: Settings(**values, host="0.0.0.0")

    def test_it_does_not_name_the_catcher(self, client: Any) -> None:
        assert "outbox" not in client.get("/").text.lower()
