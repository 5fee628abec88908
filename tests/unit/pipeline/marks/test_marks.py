"""The watermark: as the package makes it, the same in pieces, found again, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.audio.decode import decode_clip
from pipeline.audio.encode import make_encoder
from pipeline.audio.resample import StreamResampler
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.errors import CheckpointError, ConfigError
from pipeline.marks import network
from pipeline.marks.detector import Detector
from pipeline.marks.marker import FADE_SAMPLES, Marker
from pipeline.marks.spectrum import HALF_SAMPLES, HOP_SAMPLES, levels, spectrum
from pipeline.voice_list import load_voices
from tests.unit.pipeline.marks.perth_package import perth_watermarker

pytestmark = pytest.mark.unit
BORDERS = (15_000, 30_000, 60_000)  # of chunks


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker.load()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def speech(name: str = "aria") -> Float32Array:
    """A built-in clip at 24 kHz."""
    clip = decode_clip(load_voices()[name].path.read_bytes())
    changed = StreamResampler(clip.sample_rate_hz, OUTPUT_SAMPLE_RATE_HZ)
    return np.concatenate((changed.process(clip.samples), changed.finish()))


def in_pieces(
    marker: Marker, samples: Float32Array, borders: tuple[int, ...] = BORDERS
) -> Float32Array:
    mark = marker.begin()
    return np.concatenate([mark.process(piece) for piece in np.split(samples, borders)])


def power_db(signal: np.ndarray, of: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(signal**2) / np.mean(of**2)))


@pytest.mark.slow
def test_it_is_the_packages_mark(
    marker: Marker, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made without resampling: what differs is what its resampling adds."""
    theirs = perth_watermarker(monkeypatch)
    samples = speech()
    with torch.inference_mode():
        marked = theirs.apply_watermark(samples, OUTPUT_SAMPLE_RATE_HZ)[: len(samples)]
        ours = marker.begin().process(samples)
        mark = ours[: len(marked)] - samples[: len(marked)]
        assert power_db(ours[: len(marked)] - marked, mark) < -40
        heard = theirs.get_watermark(in_pieces(marker, samples), OUTPUT_SAMPLE_RATE_HZ, round=False)
        assert float(heard) > 0.99
        unmarked = float(theirs.get_watermark(samples, OUTPUT_SAMPLE_RATE_HZ, round=False))
    assert detector.find(marked, OUTPUT_SAMPLE_RATE_HZ).score > 0.99
    assert abs(detector.find(samples, OUTPUT_SAMPLE_RATE_HZ).score - unmarked) < 0.05


@pytest.mark.slow
def test_the_networks_are_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, on levels that no mask touches."""
    theirs = perth_watermarker(monkeypatch).perth_net
    ours = network.load_networks()
    padded = np.pad(speech(), HALF_SAMPLES, mode="reflect")
    with torch.inference_mode():
        seen, mask = levels(spectrum(padded))
        assert mask.all()
        whole = torch.nn.functional.pad(seen, (0, 0, 0, 1_025 - network.N_BINS))
        marked, _ = theirs.encoder(whole)
        assert torch.equal(seen + ours.encoder(seen, mask), marked[:, : network.N_BINS])
        assert torch.allclose(ours.decoder(seen, mask), theirs.decoder(whole), atol=1e-6)


@pytest.mark.parametrize("name", ["aria", pytest.param("hugo", marks=pytest.mark.slow)])
def test_it_is_found_whole_and_in_pieces(name: str, marker: Marker, detector: Detector) -> None:
    samples = speech(name)
    assert detector.find(samples, OUTPUT_SAMPLE_RATE_HZ).score < 0.3
    for marked in (marker.begin().process(samples), in_pieces(marker, samples)):
        assert marked.shape == samples.shape
        assert marked.dtype == np.float32
        assert detector.find(marked, OUTPUT_SAMPLE_RATE_HZ).score > 0.95


def test_the_shortest_stream_chunks_are_marked(marker: Marker, detector: Detector) -> None:
    samples = speech()
    borders = tuple(range(2_880, len(samples), 4_800))
    marked = in_pieces(marker, samples, borders)
    assert detector.find(marked, OUTPUT_SAMPLE_RATE_HZ).is_marked


def test_bytes_follow_from_samples_and_borders_alone(marker: Marker) -> None:
    """Whatever else is marked meanwhile; nothing of other streams shows."""
    samples, other = speech(), speech("hugo")
    alone = in_pieces(marker, samples)
    mark, beside, made = marker.begin(), marker.begin(), list[Float32Array]()
    for piece in np.split(samples, BORDERS):
        made.append(mark.process(piece))
        beside.process(other[: len(piece)])
    assert np.array_equal(np.concatenate(made), alone)
    assert np.array_equal(in_pieces(marker, samples), alone)


def test_empty_pieces_change_nothing(marker: Marker) -> None:
    samples = speech()
    assert np.array_equal(
        in_pieces(marker, samples), in_pieces(marker, samples, (15_000, 15_000, 30_000, 60_000))
    )


def test_behind_a_border_it_is_the_mark_of_the_whole(marker: Marker) -> None:
    """What lies before a chunk is seen as far as it counts: only a chunk's end is a guess."""
    samples = speech()
    end = BORDERS[-1]
    whole = marker.begin().process(samples)
    pieces = in_pieces(marker, samples)
    faded = end + FADE_SAMPLES
    np.testing.assert_allclose(pieces[faded:], whole[faded:], atol=1e-6)
    assert np.abs(whole[faded:] - samples[faded:]).max() > 1e-3


def test_the_mark_does_not_jump_at_borders(marker: Marker) -> None:
    samples = speech()
    steps = np.abs(np.diff(in_pieces(marker, samples) - samples))
    usual = np.abs(np.diff(marker.begin().process(samples) - samples)).max()
    for border in BORDERS:
        assert steps[border - 5 : border + 5].max() <= usual


def test_nothing_is_added_above_two_kilohertz_or_to_silence(marker: Marker) -> None:
    samples = speech()
    mark = marker.begin().process(samples) - samples
    lines = np.abs(np.fft.rfft(mark)) ** 2
    border = round(2_100 / (OUTPUT_SAMPLE_RATE_HZ / 2) * len(lines))
    assert lines[border:].sum() < 1e-5 * lines.sum()
    silence = np.zeros(OUTPUT_SAMPLE_RATE_HZ, np.float32)
    assert not in_pieces(marker, silence, (4_000, 9_000)).any()


def test_it_stays_within_full_scale_and_leaves_its_input(marker: Marker) -> None:
    loud = np.clip(speech() * 8, -1, 1).astype(np.float32)
    before = loud.copy()
    marked = in_pieces(marker, loud)
    assert np.abs(marked).max() <= 1
    assert np.array_equal(loud, before)


@pytest.mark.parametrize("n_samples", [1, 2, HOP_SAMPLES - 1, HOP_SAMPLES, HALF_SAMPLES + 1, 2_881])
def test_streams_of_any_length(n_samples: int, marker: Marker, detector: Detector) -> None:
    samples = speech()[20_000 : 20_000 + n_samples]
    marked = in_pieces(marker, samples, (1,))
    assert marked.shape == samples.shape
    assert np.isfinite(marked).all()
    assert detector.find(marked, OUTPUT_SAMPLE_RATE_HZ).score >= 0


@pytest.mark.parametrize(
    ("audio_format", "bit_rate"), [("mp3", 64_000), ("opus", 32_000)], ids=["mp3", "opus"]
)
def test_it_survives_codecs(
    audio_format: str, bit_rate: int, marker: Marker, detector: Detector
) -> None:
    encoder = make_encoder(audio_format, bit_rate=bit_rate)
    for samples, is_marked in ((in_pieces(marker, speech()), True), (speech(), False)):
        encoder = make_encoder(audio_format, bit_rate=bit_rate)
        clip = decode_clip(encoder.encode(samples) + encoder.finish())
        assert detector.find(clip.samples, clip.sample_rate_hz).is_marked == is_marked


@pytest.mark.slow
def test_a_marked_part_of_a_long_file_is_found_and_placed(
    marker: Marker, detector: Detector
) -> None:
    plain = np.tile(speech("hugo"), 4)
    marked = marker.begin().process(np.tile(speech(), 3))
    found = detector.find(np.concatenate((plain, marked)), OUTPUT_SAMPLE_RATE_HZ)
    assert found.is_marked
    assert not found.stretches[0].is_marked
    assert found.stretches[-1].is_marked
    assert 5 < found.marked_s < found.heard_s
    for one, following in pairwise(found.stretches):
        assert one.end_s == following.begin_s


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="resemble-perth"):
        network.load_networks()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="resemble-perth"):
        Marker.load()
