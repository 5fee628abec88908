"""What is made is kept: edits in a chain, voices of one's own, jobs; a reload finds all of it."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import picture
from tests.browser.steps import BRUNO, data, give_clip, speak, tab
from tests.waiting import eventually

pytestmark = pytest.mark.browser
JOB_MS = 180_000
STORY = "The lighthouse keeper climbed the stairs. The sea was calm. Nobody came that night. "


def edit(page: Page, kind: str, value: str, step: int) -> None:
    page.get_by_role("combobox", name="Edit").select_option(kind)
    page.get_by_role("combobox", name="Value").select_option(value)
    page.locator("#edit-form button.main").click()
    page.wait_for_url(f"**&step={step}")
    expect(page.locator("#edit-steps > li[aria-current]")).to_contain_text(f"Step {step}")


def test_an_edit_chain_with_undo_and_comparison(page: Page):
    tab(page, "Edit")
    edit(page, "emotion", "happy", 1)
    edit(page, "style", "whisper", 2)
    expect(page.locator("#edit-steps > li")).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#edit-origin")).to_contain_text("step 1: Emotion (happy)")
    page.get_by_role("button", name="Redo").click()
    expect(page.locator("#edit-origin")).to_contain_text("step 2: Style (whisper)")
    page.get_by_role("button", name="Undo").click()
    edit(page, "speed", "faster", 2)  # another second step, from the first
    expect(page.locator("#edit-steps > li").nth(1)).to_contain_text("Pace (faster)")
    page.reload()
    expect(page.locator("#edit-steps > li")).to_have_count(2)
    expect(page.locator("#edit-steps > li[aria-current]")).to_contain_text("Pace (faster)")
    first = page.locator("#edit-steps > li").first
    first.get_by_role("button", name="Play").click()
    expect(first.locator(".player")).to_have_attribute("data-state", "playing")
    switch = page.locator("#ab-switch")
    expect(switch).to_have_text("Now A: switch")
    switch.click()
    expect(switch).to_have_text("Now B: switch")
    expect(page.locator("#edit-steps > li").nth(1).locator(".player")).to_have_attribute(
        "data-state", "playing"
    )
    expect(first.locator(".player")).to_have_attribute("data-state", "ready")
    picture(page, "edit")
    page.get_by_text("Earlier edits").click()
    earlier = page.locator("#edit-earlier li button")
    expect(earlier.first).to_contain_text("Pace (faster)")
    expect(earlier.filter(has_text="whisper").first).to_be_visible()


def test_a_step_that_cannot_be_fetched_says_so_in_its_row(page: Page):
    tab(page, "Edit")
    edit(page, "emotion", "happy", 1)
    edit(page, "style", "whisper", 2)
    page.route("**/steps/1/audio*", lambda route: route.fulfill(status=503))
    page.locator("#ab-play").click()
    expect(page.locator("#edit-steps > li").first.locator(".error")).to_contain_text("503")


def held(page: Page) -> int:
    """Listeners that the page's scripts still reach."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    return devtools.send("Memory.getDOMCounters")["jsEventListeners"]


def test_rows_that_are_shown_no_more_are_let_go(page: Page):
    tab(page, "Edit")
    edit(page, "emotion", "happy", 1)
    edit(page, "style", "whisper", 2)
    undo, redo = (page.get_by_role("button", name=name) for name in ("Undo", "Redo"))
    undo.click()
    redo.click()
    before = held(page)
    for _ in range(10):
        undo.click()
        redo.click()
    assert eventually(lambda: held(page) - before < 20, 10.0), held(
        page
    )  # sound is fetched meanwhile


N_SEGMENTS = 120


def segments(route: Route) -> None:
    """Answer as the service does for a job of as many."""
    asked = {
        name: int(value) for name, [value] in parse_qs(urlsplit(route.request.url).query).items()
    }
    first = asked["after"] + 1
    page = range(first, min(first + asked["limit"], N_SEGMENTS))
    rows = [{"segment": n, "text": f"Sentence {n}.", "status": "pending"} for n in page]
    route.fulfill(json={"data": rows, "has_more": page.stop < N_SEGMENTS})


def test_segments_that_were_asked_for_stay_while_the_job_goes_on(page: Page):
    page.route("**/jobs/long/segments*", segments)
    refresh = "window.made.refresh({status: 'running', progress: {done: %d, failed: 0}})"
    page.evaluate(
        """async () => {
          const { makeSegments } = await import("./ui/segments.js");
          window.made = makeSegments("long", {});
          document.getElementById("main").append(window.made.element);
        }"""
    )
    page.evaluate(refresh % 1)
    rows = page.locator(".segments > li")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(100)
    with page.expect_response("**/jobs/long/segments*"):
        page.evaluate(refresh % 2)
    page.wait_for_timeout(100)  # until it is shown
    expect(rows).to_have_count(100)


def test_an_own_voice_is_kept_over_a_reload(page: Page):
    tab(page, "Voices")
    give_clip(page)
    page.get_by_role("textbox", name="Its name").fill("Zoe of the page")
    page.locator("#keep-form button.main").click()
    refused = page.locator("#keep-form fieldset .error")
    expect(refused).to_contain_text("only with the consent of whoever speaks")
    page.get_by_role("textbox", name="Whose voice is it?").fill("Zoe Example")
    expect(page.get_by_role("textbox", name="The words by which they agreed")).to_have_value(
        "I, Zoe Example, agree that my voice is cloned here."
    )
    page.get_by_label("The person speaking has agreed to this.").check()
    page.locator("#keep-form button.main").click()
    page.wait_for_url(re.compile(r"voice=voice_"))
    expect(page.locator("#voice-detail .report")).to_be_visible()
    page.reload()
    expect(page.locator("#voice-detail")).to_contain_text("Zoe of the page")
    picture(page, "voices")
    page.get_by_role("link", name="Speak with it: Zoe of the page", exact=True).click()
    expect(page.locator("#speak-voice option:checked")).to_have_text("Zoe of the page")
    assert data(speak(page, "One two three."), "whole-at")
    tab(page, "Voices")
    page.get_by_role("button", name="Delete: Zoe of the page").click()
    page.get_by_role("button", name="Undo: bring Zoe of the page back").click()
    delete = page.get_by_role("button", name="Delete: Zoe of the page")
    delete.click()
    expect(delete).to_have_count(0)


def test_a_recorded_consent_and_another_version(page: Page):
    tab(page, "Voices")
    give_clip(page)
    name = page.get_by_role("textbox", name="Its name")
    name.fill("Yan of the page")
    page.get_by_role("combobox", name="How did they agree?").select_option("recording")
    page.get_by_role("textbox", name="Whose voice is it?").fill("Yan Example")
    keep = page.locator("#keep-form button.main")
    keep.click()
    recording = page.locator("#consent-file")
    expect(recording).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#keep-form .error:visible")).to_contain_text(
        "the clip in which they agree"
    )
    recording.set_input_files(BRUNO)
    keep.click()
    row = page.locator("#voice-list > li").filter(has_text="Yan of the page")
    expect(row).to_contain_text(re.compile(r"version 1 · consent: Yan Example, .*, recorded"))
    page.get_by_role("button", name="Details: Yan of the page").click()
    page.get_by_role("button", name="Keep another version: Yan of the page").click()
    expect(page.locator("#keep-as")).to_be_focused()
    name.fill("clara")  # another's
    keep.click()
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#keep-form .error:visible")).to_contain_text("clara")
    name.fill("")
    page.get_by_label("What is said in the clip").fill("Please leave the keys on the table.")
    keep.click()
    expect(row).to_contain_text("version 2")
    versions = page.locator(".versions > li")
    expect(versions).to_have_count(2)
    expect(versions.first).to_contain_text("Please leave the keys on the table.")
    page.get_by_text("Consents", exact=True).click()
    expect(page.locator("#consents li").first).to_contain_text("of Yan of the page")
    page.get_by_role("combobox", name="How did they agree?").select_option("kept")
    expect(page.locator("#consent-kept option").first).to_contain_text("Yan Example")
    assert not Axe().run(page).response["violations"]
    picture(page, "versions")
    page.get_by_role("combobox", name="Language", exact=True).select_option("zh")
    page.get_by_role("combobox", name="配色").select_option("dark")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(versions.first).to_contain_text("第 2 版")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not Axe().run(page).response["violations"]
    picture(page, "versions-phone-dark-zh")
    versions.last.get_by_role("link").press("Enter")
    expect(page.locator("#speak-voice option:checked")).to_have_text("Yan of the page，第 1 版")
    page.get_by_role("textbox", name="要说的文字").fill("One two three.")
    page.locator("#speak-form button.main").click()
    page.locator("#speak-takes .take[data-cache]").wait_for()


def test_a_job_to_its_end(page: Page):
    tab(page, "Jobs")
    page.get_by_role("textbox", name="What to say").fill(STORY * 6)
    page.get_by_role("textbox", name="Name (optional)").fill("The keeper")
    page.locator("#job-form button.main").click()
    page.wait_for_url(re.compile(r"#jobs\?job=job_"))
    status = page.locator("#job-status")
    page.reload()  # it is followed again
    expect(status).to_contain_text("done ·", timeout=JOB_MS)
    expect(page.locator(".segments > li").first).to_contain_text("The lighthouse keeper")
    picture(page, "job")
    page.locator(".segments > li").first.get_by_role("button", name="Play").click()
    expect(page.locator(".segments audio")).to_be_visible()
    page.get_by_role("button", name="Hear all of it").click()
    expect(page.locator(".results audio")).to_be_visible()
    before = page.locator(".segments > li").first.locator(".hint").inner_text()
    page.get_by_role("button", name="Make anew: Segment 1").first.click()
    expect(status).not_to_contain_text("done ·")
    expect(status).to_contain_text("done ·", timeout=JOB_MS)
    expect(page.locator(".segments > li").first.locator(".hint")).not_to_have_text(before)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save subtitles").click()
    assert "-->" in download.value.path().read_text()
    page.get_by_role("button", name="Delete: The keeper").click()
    expect(page.locator("#job-detail")).to_contain_text("The job is deleted.")
    assert page.url.endswith("#jobs")
