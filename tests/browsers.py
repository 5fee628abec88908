"""Chromium from Debian, driven by Playwright: found, or installed where a test may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser  # pyright: ignore[reportMissingImports] its own extra

NO_DRIVER = "no playwright: make browser installs it"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-noto-cjk")
INSTALL_TIMEOUT_S = 600


def chromium(*, may_install: bool) -> Path:
    """Where it is. Skips the test that asks, with the reason, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and may_install and os.geteuid() == 0 and shutil.which("apt-get"):
        asked = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        subprocess.run(asked, timeout=INSTALL_TIMEOUT_S, capture_output=True, check=False)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium fonts-noto-cjk")
    return Path(found)


@contextmanager
def browser(microphone: Path | None = None, *, may_install: bool = False) -> Iterator[Browser]:
    """A headless browser. microphone: the wav file that it hears, without end."""
    driver = pytest.importorskip("playwright.sync_api", reason=NO_DRIVER)
    options = ["--use-fake-ui-for-media-stream"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # as root it has none
    if microphone is not None:
        options += [
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
        ]
    path = chromium(may_install=may_install)
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=options)
        yield opened
        opened.close()
