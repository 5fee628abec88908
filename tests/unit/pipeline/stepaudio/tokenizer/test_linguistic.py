"""All chunks at once against the chunk loop, and strict loading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.errors import CheckpointError
from pipeline.stepaudio.layout import PARAFORMER
from pipeline.stepaudio.tokenizer.linguistic import (
    ChunkSize,
    ClipFrames,
    LinguisticTokenizer,
    nearest_codes,
)
from pipeline.stepaudio.tokenizer.voice_encoder import CODEBOOK
from tests.encoder_files import chunk_loop, make_encoder, write_cmvn, write_encoder_files

pytestmark = pytest.mark.unit

CHUNK_SAMPLES = 3_840


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    random = np.random.RandomState(seed)
    return torch.from_numpy(random.standard_normal(n_samples).astype(np.float32) * 0.1)


# lengths around every case of the last chunk: absent, without a frame, filled up, whole
TAILS = [0, 79, 80, 240, 399, 400, 480, 720, 879, 880, 960, 2_000, 3_600, 3_839]


@pytest.mark.slow
@pytest.mark.parametrize("n_chunks", [0, 1, 7])
@pytest.mark.parametrize("tail", TAILS)
def test_all_chunks_at_once_equal_the_loop(tmp_path: Path, n_chunks: int, tail: int) -> None:
    encoder = make_encoder(tmp_path)
    samples = noise(n_chunks * CHUNK_SAMPLES + tail)
    expected = chunk_loop(encoder, samples)
    hidden = encoder.encode(samples)
    assert hidden.shape == expected.shape
    assert torch.allclose(hidden, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "chunk_size",
    [
        ChunkSize(4, 5, 4),
        ChunkSize(4, 5, 1),
        ChunkSize(4, 5, 0),
        ChunkSize(1, 5, 4),
        ChunkSize(10, 5, 2),
        ChunkSize(3, 1, 6),
        ChunkSize(8, 12, 3),
    ],
)
def test_any_chunk_size_equals_the_loop(tmp_path: Path, chunk_size: ChunkSize) -> None:
    encoder = make_encoder(tmp_path, chunk_size=chunk_size)
    samples = noise(40_123)
    expected = chunk_loop(encoder, samples)
    hidden = encoder.encode(samples)
    assert hidden.shape == expected.shape
    assert torch.allclose(hidden, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"num_blocks": 1},
        {"num_blocks": 5, "output_size": 24, "attention_heads": 2},
        {"normalize_before": False, "output_size": 560},
        {"kernel_size": 5, "sanm_shfit": 1},
        {"frontend": {"lfr_m": 5, "lfr_n": 4}},  # the first chunk adds fewer frames
        {"frontend": {"n_mels": 40, "lfr_m": 3, "lfr_n": 2}},
        {"output_size": 560},  # the first layer keeps its residual
    ],
    ids=str,
)
def test_other_configurations_equal_the_loop(tmp_path: Path, changes: dict) -> None:
    encoder = make_encoder(tmp_path, **changes)
    samples = noise(9 * CHUNK_SAMPLES + 1_000)
    expected = chunk_loop(encoder, samples)
    hidden = encoder.encode(samples)
    assert hidden.shape == expected.shape
    # without the first norm activations reach hundreds, and rounding with them
    assert torch.allclose(hidden, expected, rtol=0, atol=1e-4)


FULL_WIDTH = {"output_size": 512, "attention_heads": 4, "linear_units": 2048, "num_blocks": 3}
LENGTHS = [0, 79, 480, 720, 880, 3_839, 3_840, 7 * 3_840 + 240, 21_000, 96_000]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="small"),
        pytest.param(FULL_WIDTH, id="full width", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_batch_gives_every_clip_what_it_has_alone(
    tmp_path: Path, changes: dict, order: int
) -> None:
    encoder = make_encoder(tmp_path, **changes)
    clips = [encoder.frames(noise(n, seed)) for seed, n in enumerate(LENGTHS)][::order]
    with torch.inference_mode():
        together = encoder.encode_frames(clips)
        alone = [encoder.encode_frames([one])[0] for one in clips]
    codebook = encoder.encode(noise(1_024 * 960, 99))
    codes = [nearest_codes(hidden, codebook) for hidden in alone]
    assert len(set(np.concatenate(codes).tolist())) > 50
    for hidden, expected, its_codes in zip(together, alone, codes, strict=True):
        assert torch.allclose(hidden, expected, rtol=0, atol=1e-5)
        assert np.array_equal(nearest_codes(hidden, codebook), its_codes)


@pytest.mark.parametrize("size", [ChunkSize(4, 5, 0), ChunkSize(1, 5, 4), ChunkSize(8, 12, 3)])
def test_a_batch_is_right_at_any_chunk_size(tmp_path: Path, size: ChunkSize) -> None:
    encoder = make_encoder(tmp_path, chunk_size=size)
    samples = [noise(n, n) for n in (40_123, 960, 9_999)]
    with torch.inference_mode():
        together = encoder.encode_frames([encoder.frames(one) for one in samples])
    for hidden, one in zip(together, samples, strict=True):
        assert torch.allclose(hidden, chunk_loop(encoder, one), rtol=0, atol=1e-5)


def test_no_clip_of_a_batch_sees_another(tmp_path: Path) -> None:
    """Not even one that is no number at all."""
    encoder = make_encoder(tmp_path)
    clips = [encoder.frames(noise(n, n)) for n in (30_000, 1_000, 30_240)]
    with torch.inference_mode():
        before = encoder.encode_frames(clips)
        for i, clip in enumerate(clips):
            spoilt = ClipFrames(clip.features * torch.nan, clip.chunk_lengths)
            after = encoder.encode_frames([*clips[:i], spoilt, *clips[i + 1 :]])
            assert after[i].isnan().all()
            assert all(torch.equal(after[j], before[j]) for j in range(3) if j != i)


def test_clips_without_a_frame_have_no_codes(tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path)
    assert encoder.encode_frames([]) == []
    hidden = encoder.encode_frames([encoder.frames(noise(n)) for n in (0, 79)])
    assert [one.shape for one in hidden] == [(0, 32), (0, 32)]


def test_chunks_see_their_past_and_nothing_later(tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path)
    samples = noise(10 * CHUNK_SAMPLES)
    before = encoder.encode(samples)
    changed = samples.clone()
    changed[5 * CHUNK_SAMPLES : 6 * CHUNK_SAMPLES] *= 0.1
    is_changed = (encoder.encode(changed) != before).any(dim=1)
    assert not is_changed[: 5 * 4].any()
    assert is_changed[5 * 4 :].all()  # layer by layer the past reaches further than one look back


def test_the_encoder_is_deterministic(tmp_path: Path) -> None:
    """The published default dithers at random, and its dropout would too."""
    encoder = make_encoder(tmp_path, frontend={"dither": 1.0})
    samples = noise(20_000)
    assert torch.equal(encoder.encode(samples), encoder.encode(samples))


def test_nearest_codes_are_euclidean() -> None:
    codebook = torch.tensor([[10.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    codes = nearest_codes(torch.tensor([[0.9, 0.8], [6.0, 0.0], [0.1, 0.0]]), codebook)
    assert codes.tolist() == [1, 0, 2]  # by inner product the first would be 0
    assert codes.dtype == np.int16


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_files_give_the_same_codes_as_the_module(tmp_path: Path, is_zip: bool) -> None:
    tokenizer_dir, _ = write_encoder_files(tmp_path)
    paraformer, codebook = tokenizer_dir / PARAFORMER, tokenizer_dir / CODEBOOK
    state = torch.load(paraformer / "model.pt")
    torch.save(state, paraformer / "model.pt", _use_new_zipfile_serialization=is_zip)
    tokenizer = LinguisticTokenizer(paraformer, codebook)
    samples = noise(30_000)
    expected = chunk_loop(make_encoder(tmp_path), samples)
    codes = nearest_codes(expected, torch.from_numpy(np.load(codebook)))
    assert len(set(codes.tolist())) > 5
    assert np.array_equal(tokenizer.encode(samples), codes)


def edit_state(path: Path, edit: str) -> None:
    state = torch.load(path)
    if edit == "missing":
        del state["encoder.after_norm.bias"]
    elif edit == "unexpected":
        state["encoder.after_norm.extra"] = torch.zeros(1)
    else:
        state["encoder.after_norm.bias"] = torch.zeros(7)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("missing", r"1 missing: after_norm\.bias"),
        ("unexpected", r"1 unexpected: after_norm\.extra"),
        ("misshapen", r"after_norm\.bias is \[7\], the config says \[32\]"),
    ],
)
def test_loading_is_strict(tmp_path: Path, edit: str, message: str) -> None:
    tokenizer_dir, _ = write_encoder_files(tmp_path)
    edit_state(tokenizer_dir / PARAFORMER / "model.pt", edit)
    with pytest.raises(CheckpointError, match=message):
        LinguisticTokenizer(tokenizer_dir / PARAFORMER, tokenizer_dir / CODEBOOK)


def damage(paraformer: Path, codebook: Path, what: str) -> None:
    config = paraformer / "config.yaml"
    if what == "config":
        config.write_text("encoder_conf: 3\n")
    elif what == "unknown key":
        conf = yaml.safe_load(config.read_text())
        conf["encoder_conf"]["n_wheels"] = 4
        config.write_text(yaml.safe_dump(conf))
    elif what == "weights":
        (paraformer / "model.pt").write_bytes(b"no weights")
    elif what == "cmvn":
        write_cmvn(paraformer / "am.mvn", 100)
    elif what == "width":
        np.save(codebook, np.zeros((64, 31), np.float32))
    else:
        codebook.write_bytes(b"no array")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("config", "no section encoder_conf"),
        ("unknown key", "n_wheels"),
        ("weights", r"cannot read .*model\.pt"),
        ("cmvn", "100 features; the encoder reads 560"),
        ("width", r"shape \(64, 31\); expected \(codes, 32\)"),
        ("codebook", r"cannot read .*npy"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, what: str, message: str) -> None:
    tokenizer_dir, _ = write_encoder_files(tmp_path)
    paraformer, codebook = tokenizer_dir / PARAFORMER, tokenizer_dir / CODEBOOK
    damage(paraformer, codebook, what)
    with pytest.raises(CheckpointError, match=message):
        LinguisticTokenizer(paraformer, codebook)


@pytest.mark.slow
def test_funasr_is_not_left_half_imported() -> None:
    """In a process of its own, since other tests may import funasr."""
    script = (
        "import sys\n"
        "from pipeline.stepaudio.tokenizer.funasr_parts import funasr_classes\n"
        "assert not [m for m in sys.modules if m.startswith('funasr')]\n"
        "first = funasr_classes()\n"
        "assert first is funasr_classes()\n"
        "heavy = ('funasr', 'librosa', 'numba', 'torchaudio')\n"
        "left = [m for m in sys.modules if m.partition('.')[0] in heavy]\n"
        "assert not left, left\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
