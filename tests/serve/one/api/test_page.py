"""The page on a real service: it loads, and a clone of an uploaded clip plays before it is whole.

What else it can do is tested by `make browser`.
"""

from __future__ import annotations

import pytest

from pipeline.voice_list import VOICES_DIR
from tests.browsers import browser
from tests.serve.service_client import ServiceClient, listed_clip

pytestmark = pytest.mark.serve
TEXT = "The lighthouse keeper climbed the stairs. The sea was calm. Nobody came that night."
STEP_MS = 60_000


def test_the_page_clones_a_voice(client: ServiceClient):
    with browser() as opened:
        page = opened.new_page()
        page.set_default_timeout(STEP_MS)
        page.goto(f"{client.service.url}/ui#speak?whose=clip")
        page.wait_for_selector("html[data-ready]")
        page.set_input_files("#clip-file", VOICES_DIR / "bruno.wav")
        page.fill("#clip-words", listed_clip("bruno")[1])
        page.fill("#speak-text", TEXT)
        page.click("#speak-form button.main")
        page.locator("#speak-takes .take[data-cache]").wait_for()
        player = page.locator("#speak-takes .player")
        heard, whole = (
            player.get_attribute(f"data-{name}") for name in ("sounds-from", "whole-at")
        )
        assert heard is not None
        assert whole is not None
        assert float(heard) < float(whole)
