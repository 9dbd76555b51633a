"""A real browser, and what a page in it must not do."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

from waiting import PATIENCE

_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_SECONDS = 10.0 * PATIENCE
# The browser's own words on an answer that the page deals with, and on a server that is away.
_HARMLESS = re.compile(
    r"Failed to load resource|net::ERR_|Completeness is not known"
    r"|could not be read TypeError: Failed to fetch"  # while the server is away
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine, or else the one that Playwright has brought."""
    expect.set_options(timeout=_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page in a context of its own, which must not fail, break its policy, or run what users have written.

    Args:
        browser: where to open it.
        url: what to open.
        **options: of the context, as Playwright names them: `locale`, `color_scheme`, `viewport`.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(_SECONDS * 1000)
    page = context.new_page()
    problems: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _HARMLESS.search(message.text):
            problems.append(message.text)

    def refuse(dialog: Dialog) -> None:
        problems.append(dialog.message)
        dialog.dismiss()

    page.on("console", hear)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", refuse)
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert not problems, problems
