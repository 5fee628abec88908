"""Every example of the README and of docs/ works as it stands there, on the shared service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.examples import Page, examples, missing_for, require_speech
from tests.serve.service_client import ServiceClient

pytestmark = pytest.mark.serve
PAGES = (
    "README.md",
    "docs/quick_start.md",
    "docs/openai.md",
    "docs/api/speech.md",
    "docs/voices.md",
    "docs/edits.md",
    "docs/jobs.md",
    "docs/cache.md",
    "docs/tuning.md",
    "docs/marks.md",
)
NOT_HERE = {
    "make demo": "installs; what it then does is tests/serve/one/api/test_demo.py",
    "make test": "is what runs this",
    "pip wheel . --no-deps --wheel-dir dist": "tests/serve/one/life/test_wheel.py, off line",
    'pip install "$(ls dist/timbre-*.whl)[cpu,embedded]" --constraint constraints.txt': "the same",
    "timbre up": "the shared service stands for it; test_wheel.py runs the command",
}
OF_NPM = 'from "openai"'  # runs where that package is installed: test_clients.py


def test_what_is_left_out_is_shown():
    shown = [block for name in PAGES for block in examples(name) if block.language == "bash"]
    assert NOT_HERE.keys() <= {
        command
        for block in shown
        if any(left in block.text for left in NOT_HERE)
        for command in block.commands
    }


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of_a_page_work(name: str, client: ServiceClient, tmp_path: Path):
    page = Page(name, tmp_path, client.service.url, NOT_HERE)
    (tmp_path / "voices").symlink_to(Path(client.service.log).parent / "voices")  # its store
    left_out = []
    for block in examples(name):
        if OF_NPM in block.text:
            continue
        if why := missing_for(block):
            left_out.append(why)
            continue
        page.run(block)
        for path in page.new_audio():
            require_speech(path)
    if left_out:
        pytest.skip(f"{len(left_out)} examples did not run: {left_out[0]}")
