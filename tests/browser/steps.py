"""What several tests do on the page, by what a visitor sees."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from pipeline.voice_list import VOICES_DIR, load_voices

_ANY = re.compile(".")
BRUNO = VOICES_DIR / "bruno.wav"
SAID = load_voices(VOICES_DIR)["bruno"].transcript


def give_clip(page: Page, clip: Path = BRUNO, words: str = SAID) -> None:
    """Upload a clip with its words, and wait until the service has judged it."""
    page.get_by_label("Clip of the voice").set_input_files(clip)
    expect(page.locator(".report")).to_be_visible()
    page.get_by_label("What is said in the clip").fill(words)


def speak(page: Page, text: str, nth: int = 0) -> Locator:
    """Say something; the row that plays it, once it is whole and accounted for."""
    page.get_by_role("textbox", name="What to say").fill(text)
    before = page.locator("#speak-takes .take").count()
    page.locator("#speak-form button.main").click()
    expect(page.locator("#speak-takes .take")).to_have_count(before + 1)
    row = page.locator("#speak-takes .take").nth(nth)
    expect(row).to_have_attribute("data-cache", _ANY)
    return row


def tab(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()


def data(row: Locator, name: str) -> float:
    """A number that the player of a row tells of itself."""
    told = row.locator(".player").get_attribute(f"data-{name}")
    assert told is not None, name
    return float(told)
