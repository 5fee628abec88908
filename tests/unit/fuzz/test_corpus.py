"""What the fuzzers start from, and each input that was once a fault, read as anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.unit
KEPT = [(name, path) for name in TARGETS for path in corpus.files(name)]
MOST_BYTES = 200_000


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}-{path.name}" for name, path in KEPT])
def test_a_kept_input_is_read_or_refused(name: str, path: Path):
    TARGETS[name].run(path.read_bytes())


def test_every_target_has_something_to_begin_with_and_the_corpus_stays_small():
    assert {path.name for path in corpus.ROOT.iterdir()} == set(TARGETS)
    assert all(len(corpus.files(name)) >= 3 for name in TARGETS)
    assert sum(path.stat().st_size for _, path in KEPT) < MOST_BYTES
