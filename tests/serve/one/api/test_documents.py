"""Every example of the README and of docs/ works as it stands there, on the shared service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.examples import NOT_HERE, PAGES, Page, programs
from tests.serve.service_client import ServiceClient

pytestmark = pytest.mark.serve
NEEDS_STAGES = ("README.md", "docs/jobs.md", "docs/marks.md")
OTHERS = [
    pytest.param(name, marks=pytest.mark.exhaustive) for name in PAGES if name not in NEEDS_STAGES
]


def test_what_is_left_out_is_shown():
    shown = [block for name in PAGES for block in programs(name)]
    left_out = [left for left in NOT_HERE if any(left in block.text for block in shown)]
    assert left_out == list(NOT_HERE)


@pytest.mark.parametrize("name", [*NEEDS_STAGES, *OTHERS])
def test_the_examples_of_a_page_work(name: str, client: ServiceClient, tmp_path: Path):
    """The others run in tests/unit/documents/test_examples.py, on fakes of the stages."""
    voices = Path(client.service.log).parent / "voices"
    if skipped := Page(name, tmp_path, client.service.url, voices).run_all():
        pytest.skip(f"{len(skipped)} examples did not run: {skipped[0]}")
