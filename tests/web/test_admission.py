"""Who may look at caught messages; to all others there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.config import Settings
from app.core.channels import catcher_store
from tests.web.caught import UNKNOWN, assert_unknown_page, kept

OTHER_HOSTS = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:8000",
    "127.0.0.1.nip.io",
    "127.0.0.2",
    "127.1",
    "0.0.0.0",
    "[::]",
    "::1",
    "localhost:",
    "localhost:8000:1",
    "localhost@evil.example",
    "localhost,evil",
    "",
)
FORWARDING = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "x-forwarded-anything",
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-Client-IP",
    "X-Original-Host",
)


class TestWhoMayLook:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535"]
    )
    def test_a_browser_that_names_this_machine_is_let_in(self, client: Any, host: str) -> None:
        assert client.get("/dev/outbox", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("host", OTHER_HOSTS)
    def test_any_other_name_finds_an_unknown_page(self, client: Any, host: str) -> None:
        for path in ("/dev/outbox", "/dev/outbox/messages", f"/dev/outbox/{UNKNOWN}/html", "/dev/x"):
            assert_unknown_page(client, client.get(path, headers={"Host": host}))

    @pytest.mark.parametrize("header", FORWARDING)
    def test_what_came_through_a_proxy_finds_an_unknown_page(self, client: Any, header: str) -> None:
        answer = client.get("/dev/outbox", headers={header: ""})

        assert_unknown_page(client, answer)

    def test_a_proxy_that_leaves_no_trace_but_its_old_protocol_finds_an_unknown_page(self, client: Any) -> None:
        answer = client.get("/dev/outbox", environ_overrides={"SERVER_PROTOCOL": "HTTP/1.0"})

        assert_unknown_page(client, answer)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
    def test_no_method_gives_away_that_there_is_something(self, client: Any, method: str) -> None:
        for path in ("/dev/outbox", "/dev/nothing"):
            assert client.open(path, method=method, headers={"Host": "evil.example"}).status_code == 404

    @pytest.mark.parametrize("shape", ["production"])
    def test_in_production_there_is_nothing(self, client: Any, settings: Settings) -> None:
        catcher_store(settings).add(kept())

        for path in ("/dev/outbox", "/dev/outbox/", "/dev/outbox/messages", f"/dev/outbox/{kept().id}"):
            assert_unknown_page(client, client.get(path))

    class TestBoundToTheNetwork:
        @pytest.fixture
        def make_settings(self) -> Callable[..., Settings]:
            return lambda **values: Settings(**values, host="0.0.0.0")

        def test_there_is_nothing(self, client: Any) -> None:
            assert_unknown_page(client, client.get("/dev/outbox"))
