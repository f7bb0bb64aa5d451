"""Pages on a really running embedded application, messages caught without the pipeline, and a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from app.config import Settings
from app.core.channels import catcher_store
from app.core.runtime import Runtime
from providers.catcher import EmailCatcher, SmsCatcher
from providers.contract import Channel
from tests.providers.messages import message, outcome

Catch = Callable[..., str]

PATIENCE_MS = 60_000  # for what is to come, on a machine that may be busy
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def shape() -> str:
    """The catcher is there in the embedded shape only; a test parametrizes `shape` to see the other."""
    return "embedded"


@pytest.fixture
def catch_email(settings: Settings) -> Catch:
    """Catch one email; returns its id."""
    catcher = EmailCatcher(catcher_store(settings), "Shop <shop@example.com>")
    return lambda to="ada@example.com", **fields: outcome(catcher, message(Channel.EMAIL, to, **fields)).provider_id


@pytest.fixture
def catch_sms(settings: Settings) -> Catch:
    """Catch one SMS; returns its id."""
    catcher = SmsCatcher(catcher_store(settings))
    return lambda text, to="+15005550006": outcome(catcher, message(Channel.SMS, to, text=text)).provider_id


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def site(app: Any, runtime: Runtime) -> Iterator[str]:
    """The address of the application as it runs on a free port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
