"""Token arithmetic: round trips and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stepaudio.tokens import deinterleave, interleave, is_vq02_position, to_rows

pytestmark = pytest.mark.unit

vq02_codes = st.lists(st.integers(0, 1023), max_size=40)
vq06_codes = st.lists(st.integers(0, 4095), max_size=60)


@given(vq02_codes, vq06_codes)
def test_interleave_and_back_keeps_whole_groups(vq02: list[int], vq06: list[int]) -> None:
    n = min(len(vq02) // 2, len(vq06) // 3)
    ids = interleave(np.array(vq02, np.int16), np.array(vq06, np.int16))
    assert len(ids) == 5 * n
    back02, back06 = deinterleave(ids)
    assert back02.tolist() == vq02[: 2 * n]
    assert back06.tolist() == vq06[: 3 * n]
    for position, token in enumerate(ids.tolist()):
        assert (token < 1024) == is_vq02_position(position)


@given(vq02_codes, vq06_codes)
def test_rows_hold_the_same_codes(vq02: list[int], vq06: list[int]) -> None:
    ids = interleave(np.array(vq02, np.int16), np.array(vq06, np.int16))
    n = len(ids) // 5
    rows = to_rows(ids)
    assert rows.shape == (3 * n, 2)
    assert rows[:, 0][rows[:, 0] != 1024].tolist() == vq02[: 2 * n]
    assert (rows[2::3, 0] == 1024).all()
    assert (rows[:, 1] - 1025).tolist() == vq06[: 3 * n]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0, 0, 1024, 1024], "not whole groups"),
        ([0, 1024, 1024, 1024, 1024], "other codebook"),
        ([0, 0, 1024, 1023, 1024], "other codebook"),
        ([0, 0, 1024, 1024, 5120], "other codebook"),
        ([-1, 0, 1024, 1024, 1024], "other codebook"),
    ],
)
def test_broken_groups_are_refused(ids: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deinterleave(np.array(ids, np.int32))
