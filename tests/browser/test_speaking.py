"""A clone from upload to playing audio; what is wrong is said beside the field at fault."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from pipeline.audio.decode import decode_clip
from tests.audio_files import wav
from tests.browser.conftest import picture
from tests.browser.steps import BRUNO, SAID, data, give_clip, speak, tab

pytestmark = pytest.mark.browser
BAR = re.compile(r"Total .* s: voice .* vocoder")
RECORDING = re.compile(r"recording\.webm, [345]\.\d s")
SENTENCE = re.compile(r"^[A-Z].*\.$")
LONG = "The lighthouse keeper climbed the stairs every evening. " * 4


def test_a_clone_plays_while_it_is_made(page: Page):
    page.get_by_label("The voice of a clip").check()
    give_clip(page)
    page.get_by_role("textbox", name="What to say").fill(LONG)
    page.locator("#speak-form button.main").click()
    player = page.locator("#speak-takes .player").first
    expect(player).to_have_attribute("data-state", "making")
    while not float(player.get_attribute("data-position") or 0):
        assert player.get_attribute("data-state") == "making", "it was whole before it was heard"
        page.wait_for_timeout(20)
    row = page.locator("#speak-takes .take[data-cache]").first
    row.wait_for()
    assert data(row, "sounds-from") < data(row, "whole-at")
    expect(player).to_have_attribute("data-state", "ready")
    heard_s = (page.evaluate("performance.now()") - data(row, "sounds-from")) / 1000
    audio_s = float(player.locator(".seek").get_attribute("max") or 0)
    assert heard_s > audio_s - 0.1, "its beginning was left out"
    expect(page.locator("#last-bar .bar")).to_have_attribute("aria-label", BAR)
    picture(page, "speak")


def test_the_second_time_is_a_hit_and_the_page_says_what_it_saved(page: Page, tmp_path: Path):
    clip = decode_clip(BRUNO.read_bytes())
    level = np.random.default_rng().uniform(0.5, 0.9)  # one that no service has met
    (tmp_path / "new.wav").write_bytes(wav(clip.samples[np.newaxis] * level, clip.sample_rate_hz))
    page.get_by_label("The voice of a clip").check()
    give_clip(page, tmp_path / "new.wav")
    for _ in range(2):
        speak(page, "One two three.")
    tab(page, "Cache")
    expect(page.locator("#rate-said")).to_contain_text("1 of the 2 last requests")
    expect(page.locator("#saved-said")).to_contain_text("each hit saved")
    expect(page.locator(".chart circle.hit")).to_have_count(1)
    expect(page.locator(".chart .service")).to_have_attribute("points", re.compile(r"\d,\d"))
    expect(page.locator("#saved-said")).to_contain_text("of encoding since its start")
    picture(page, "cache")


@pytest.mark.parametrize(("status", "is_said"), [(503, False), (403, True)])
def test_counts_are_said_to_be_for_others_where_they_are(page: Page, status: int, is_said: bool):
    page.route("**/v1/cache", lambda route: route.fulfill(status=status))
    with page.expect_response("**/v1/cache"):
        tab(page, "Cache")
    counts = expect(page.locator("#rate-said"))
    check = counts.to_contain_text if is_said else counts.not_to_contain_text
    check("keys with the scope admin")


def test_a_clip_is_trimmed_as_suggested(page: Page, tmp_path: Path):
    clip = decode_clip(BRUNO.read_bytes())
    silence = np.zeros(2 * clip.sample_rate_hz, np.float32)
    samples = np.concatenate([silence, clip.samples, silence])
    (tmp_path / "padded.wav").write_bytes(wav(samples[np.newaxis], clip.sample_rate_hz))
    page.get_by_label("The voice of a clip").check()
    give_clip(page, tmp_path / "padded.wav")
    expect(page.locator("#clip-span")).to_have_text("0.0 to 9.1 of 9.1 s")
    page.get_by_role("button", name="Trim as suggested").click()
    expect(page.locator("#clip-span")).not_to_have_text("0.0 to 9.1 of 9.1 s")
    sent = []
    page.on("request", lambda request: sent.append(request) if "/upload" in request.url else None)
    speak(page, "One two three.")
    n_bytes = int(sent[0].header_value("content-length") or 0)
    assert 4.5 < n_bytes / 48_000 < 7.0  # seconds at 24 kHz: the part that is kept
    page.reload()
    expect(page.locator("#clip-span")).to_contain_text("9.1 s")  # the file itself is kept
    expect(page.get_by_label("What is said in the clip")).to_have_value(SAID)


def test_a_clip_is_recorded_here(page: Page):
    page.get_by_label("The voice of a clip").check()
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(4_000)
    page.get_by_role("button", name="Stop recording").click()
    expect(page.locator(".report")).to_be_visible()
    expect(page.locator("#clip-wave")).to_have_attribute("aria-label", RECORDING)
    page.get_by_label("What is said in the clip").fill(SAID)
    assert data(speak(page, "One two three."), "whole-at")


def test_pressed_twice_it_records_once(page: Page):
    """A recorder that nobody can stop would listen on."""
    page.get_by_label("The voice of a clip").check()
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.heard = [];
          navigator.mediaDevices.getUserMedia = async (wanted) => {
            const microphone = await ask(wanted);
            window.heard.push(...microphone.getTracks());
            return microphone;
          };
        }"""
    )
    page.get_by_role("button", name="Record").evaluate("(one) => { one.click(); one.click(); }")
    page.wait_for_timeout(1_000)
    page.get_by_role("button", name="Stop recording").click()
    expect(page.locator(".report")).to_be_visible()
    assert page.evaluate("window.heard.map((one) => one.readyState)") == ["ended"]


def test_a_bad_file_is_told_beside_its_field(page: Page, tmp_path: Path):
    for name in ("notes.wav", "others.wav"):
        (tmp_path / name).write_text("these are notes, not a voice")
    page.get_by_label("The voice of a clip").check()
    field = page.get_by_label("Clip of the voice")
    field.set_input_files(tmp_path / "notes.wav")
    expect(field).to_have_attribute("aria-invalid", "true")
    beside = page.locator(f"#{field.get_attribute('aria-describedby')}")
    expect(beside).to_have_text(SENTENCE)
    picture(page, "bad_file")
    page.get_by_role("combobox", name="Language").select_option("zh")
    page.get_by_label("声音录音", exact=True).set_input_files(tmp_path / "others.wav")
    expect(page.locator(".clip .error")).to_contain_text("无法解码")


def test_every_mistake_is_told_beside_its_field(page: Page):
    page.get_by_role("textbox", name="What to say").fill("")
    page.locator("#speak-form button.main").click()
    expect(page.get_by_role("textbox", name="What to say")).to_be_focused()
    expect(page.get_by_role("textbox", name="What to say")).to_have_attribute(
        "aria-invalid", "true"
    )
    page.get_by_role("textbox", name="What to say").fill("One.")
    page.get_by_text("More settings").click()
    page.get_by_role("textbox", name="Seed").fill("often")
    page.locator("#speak-form button.main").click()
    expect(page.get_by_role("textbox", name="Seed")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("textbox", name="What to say")).not_to_have_attribute(
        "aria-invalid", "true"
    )
    page.get_by_role("textbox", name="Seed").fill("7")
    page.get_by_label("The voice of a clip").check()
    page.locator("#speak-form button.main").click()
    expect(page.locator(".clip .error")).to_have_text("Choose or record a clip first.")
    give_clip(page, words="")
    page.locator("#speak-form button.main").click()
    words = page.get_by_label("What is said in the clip")
    expect(words).to_have_attribute("aria-invalid", "true")
    expect(words).to_be_focused()


def test_speech_is_stopped(page: Page):
    page.get_by_role("textbox", name="What to say").fill(LONG * 10)
    page.locator("#speak-form button.main").click()
    expect(page.locator("#speak-takes .player")).to_have_attribute("data-state", "making")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#speak-takes .player")).to_have_attribute("data-state", "ready")
    expect(page.locator("#speak-takes .error")).to_have_count(0)
