"""One service and one browser for all of these tests. Pictures go to out/browser.

TIMBRE_BROWSER_URL names a service that runs already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browsers import NO_DRIVER

pytest.importorskip("playwright", reason=NO_DRIVER)
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, ViewportSize, expect

from pipeline.voice_list import VOICES_DIR
from tests.browsers import browser as opened_browser
from tests.conftest import ROOT
from tests.serve.services import running, write_config

URL = "TIMBRE_BROWSER_URL"
PICTURES = ROOT / "out" / "browser"
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
TIMEOUT_MS = 60_000  # of one step, on two busy cores
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. As shipped, but for what a busy machine would refuse."""
    if given := os.environ.get(URL):
        yield given.rstrip("/")
        return
    directory = tmp_path_factory.mktemp("service")
    cache = {"url": str(directory / "voices")}
    speech = {"enabled": True}
    with running(directory, write_config(directory, cache=cache, speech_cache=speech)) as client:
        yield client.service.url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with opened_browser(VOICES_DIR / "bruno.wav", may_install=True) as opened:
        yield opened


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, service: str) -> Iterator[Open]:
    """Opens the page in a browser session of its own. A fault of a script fails the test."""
    faults: list[str] = []
    contexts = []

    def told(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    def fault(error: Error) -> None:
        faults.append(str(error))

    def opened(at: str = "", url: str = service, **context: object) -> Page:
        made = browser.new_context(**{"viewport": DESKTOP, "locale": "en-US", **context})  # type: ignore[arg-type]
        made.set_default_timeout(TIMEOUT_MS)
        contexts.append(made)
        page = made.new_page()
        page.on("console", told)
        page.on("pageerror", fault)
        page.goto(f"{url}/ui{at}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def page(open_page: Open) -> Page:
    return open_page()


def picture(page: Page, name: str) -> Path:
    """Take one, for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
