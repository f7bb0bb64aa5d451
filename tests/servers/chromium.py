"""Debian's Chromium for the tests of pages, driven by Playwright, with no way to anything but this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from tests.servers.process import find_program

_FLAGS = (
    # Every name and address but these fails to resolve, so a page that wants the outside world fails its test.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-gpu",
    "--no-first-run",
    # /dev/shm is small in containers.
    "--disable-dev-shm-usage",
    # Its sandbox refuses root and wants user namespaces; it only ever sees our own pages.
    "--no-sandbox",
)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Open a headless Chromium; it closes with the block, or when this process dies.

    Playwright's own downloads are not used. Raises FileNotFoundError if Chromium is not installed. The synchronous API
    cannot be used in a thread that runs an asyncio loop.
    """
    program = find_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS), timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()
