"""Files that claim tables out of all proportion are refused before libav reads them."""

from __future__ import annotations

import pytest

from pipeline.audio.caf_guard import refuse_caf_bomb
from pipeline.audio.mp4_guard import refuse_mp4_bomb
from pipeline.errors import UndecodableAudioError
from tests.audio_files import FTYP, compressed_header_mp4, fragmented_mp4, mp4
from tests.hostile_files import caf_bomb

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (compressed_header_mp4(1_000_000), "compressed header"),
        (mp4(b".mp3", 30_000_000, 24, bytes(16_000)), "claims an index of"),
        (mp4(b".mp3", 100_000, 1, bytes(100_000), n_edits=5_000), "claims an index of"),
        (fragmented_mp4(50_000_000), "claims an index of"),
    ],
    ids=["compressed", "table", "edits", "fragment"],
)
def test_a_bomb_is_refused_before_libav_reads_it(data: bytes, says: str):
    with pytest.raises(UndecodableAudioError, match=says):
        refuse_mp4_bomb(data)


def test_a_crowd_of_boxes_is_refused():
    with pytest.raises(UndecodableAudioError, match="stsc boxes"):
        refuse_mp4_bomb(FTYP + b"stsc" * 1_000)


def test_a_caf_that_claims_packets_is_refused():
    with pytest.raises(UndecodableAudioError, match="claims 8000000 packets"):
        refuse_caf_bomb(caf_bomb(8_000_000))
