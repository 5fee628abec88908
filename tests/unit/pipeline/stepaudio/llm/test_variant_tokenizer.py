"""A variant of the language model reads prompts that the base's text tokenizer wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.stages.llm import check_same_tokenizer
from pipeline.errors import CheckpointError
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout

pytestmark = pytest.mark.unit


def test_a_variant_with_another_text_tokenizer_is_refused(tmp_path: Path) -> None:
    base, variant = CheckpointLayout.at(PACKAGED_TINY), CheckpointLayout.expected(tmp_path)
    variant.text_tokenizer.parent.mkdir(parents=True)
    written = base.text_tokenizer.read_bytes()
    variant.text_tokenizer.write_bytes(written)
    check_same_tokenizer(base, variant)
    variant.text_tokenizer.write_bytes(written + b"\0")
    with pytest.raises(CheckpointError, match="same text tokenizer"):
        check_same_tokenizer(base, variant)
