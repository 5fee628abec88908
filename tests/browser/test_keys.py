"""Where the service asks for keys, the page asks for one, and keeps it in its tab alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.http_app import ServedApp, running
from tests.uvicorn_server import uvicorn_serving

pytestmark = pytest.mark.browser
KEY = "an-operator's-own-words-32-or-more"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """Address of the application with keys on, in a thread; stages are fakes: nobody is let far."""
    (tmp_path / "admin").write_text(KEY)
    access = {"keys": "on", "admin_key_file": str(tmp_path / "admin")}
    served = ServedApp(access=access, cache={"url": str(tmp_path / "store"), "l2": "off"})
    loop, ports, stop = asyncio.new_event_loop(), list[int](), asyncio.Event()
    is_up = threading.Event()

    async def serve() -> None:
        async with running(served.made), uvicorn_serving(served.made.app) as port:
            ports.append(port)
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_up.wait(60)
    yield f"http://127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(open_page: Open, guarded: str):
    page = open_page(url=guarded)
    field = page.get_by_label("API key", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    beside = page.locator(f"#{field.get_attribute('aria-describedby')}")
    expect(beside).to_contain_text("asks for an API key")
    field.fill("tk_wrong")
    field.press("Enter")
    expect(beside).to_contain_text("does not count here")
    field.fill(KEY)
    field.press("Enter")
    expect(page.locator("#speak-voice option").first).to_be_attached()
    page.locator("#speak-form button.main").click()
    page.locator("#speak-takes .take[data-cache]").wait_for()
    assert KEY not in page.url
    assert KEY not in page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
    page.reload()
    expect(page.locator("#speak-voice option").first).to_be_attached()
    with page.context.expect_page() as opened:
        page.evaluate("window.open(location.pathname, '_blank', 'noopener')")
    expect(opened.value.get_by_label("API key", exact=True)).to_have_attribute(
        "aria-invalid", "true"
    )
