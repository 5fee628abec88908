"""The embedded checkpoint: complete, small, described, and it speaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.audio.joints import FADE_SAMPLES
from pipeline.contracts import (
    GROUP_TOKENS,
    OUTPUT_SAMPLE_RATE_HZ,
    Mode,
    Sampling,
    SpeechRequest,
)
from pipeline.local import LocalPipeline, _say
from pipeline.prompting import FRONT_END_KEY
from pipeline.stepaudio.checkpoint.verify import verify_checkpoint
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.step1 import load_step1
from pipeline.text.phonemes import FRONT_END_NAME
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit

MAX_BYTES = 40_000_000
TEXT = "The children opened the garden gate."
SENTENCES = (
    "The morning train was late again, but nobody on the platform seemed to mind.",
    "Every good story needs a beginning, a middle, and someone who listens.",
    "She opened the window, and the smell of fresh bread filled the whole kitchen.",
)


@pytest.fixture(scope="module")
def speaking() -> Iterator[LocalPipeline]:
    with LocalPipeline("tiny") as pipeline:
        yield pipeline


def spoken(
    pipeline: LocalPipeline, voice: str, seed: int, text: str = TEXT, **fields: Any
) -> np.ndarray:
    listed = load_voices()[voice]
    asked = {"sampling": Sampling(seed=seed), **fields}
    request = SpeechRequest(text=text, transcript=listed.transcript, **asked)
    return asyncio.run(_say(pipeline, listed.path.read_bytes(), request))[0]


def test_it_is_sound_and_small() -> None:
    report = verify_checkpoint(PACKAGED_TINY)
    assert report.ok, report.problems
    files = [path for path in PACKAGED_TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_its_config_names_the_front_end_and_its_card_says_what_it_is() -> None:
    config = json.loads(CheckpointLayout.at(PACKAGED_TINY).lm_config.read_text())
    assert config[FRONT_END_KEY] == FRONT_END_NAME
    card = (PACKAGED_TINY / "README.md").read_text(encoding="utf-8")
    for heading in ("Data", "Recipe", "Quality", "Limits", "Licence"):
        assert f"\n## {heading}" in card


@pytest.mark.slow
def test_it_speaks_at_a_plausible_length_and_level(speaking: LocalPipeline) -> None:
    samples = spoken(speaking, "elena", 3)
    assert 1.0 < len(samples) / OUTPUT_SAMPLE_RATE_HZ < 4.5  # six words
    assert 0.01 < float(np.sqrt(np.mean(samples**2))) < 0.3
    assert float(np.abs(samples).max()) <= 1.0
    assert np.array_equal(samples, spoken(speaking, "elena", 3))


@pytest.mark.slow
def test_it_tells_what_each_stage_took(speaking: LocalPipeline) -> None:
    listed = load_voices()["elena"]
    request = SpeechRequest(TEXT, listed.transcript, sampling=Sampling(seed=3))
    _, times = asyncio.run(_say(speaking, listed.path.read_bytes(), request))
    assert times.tier == "miss"
    assert 0 < times.llm_s <= times.total_s
    assert 0 < times.llm_work_s <= times.total_s
    assert 0 < times.vocoder_s <= times.total_s


@pytest.mark.slow
def test_a_high_voice_makes_it_speak_higher_than_a_low_one(speaking: LocalPipeline) -> None:
    low, high = (_pitch_hz(spoken(speaking, name, 3)) for name in ("david", "clara"))
    assert high > 1.4 * low


def _pitch_hz(samples: np.ndarray) -> float:
    """Median over loud frames of the autocorrelation's best lag between 70 and 400 Hz."""
    size, rate = 1440, OUTPUT_SAMPLE_RATE_HZ
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::480]
    level = np.sqrt(np.mean(frames**2, axis=1))
    pitches = []
    for frame in frames[level > np.quantile(level, 0.6)]:
        spectrum = np.abs(np.fft.rfft(frame * np.hanning(size), 4096)) ** 2
        correlation = np.fft.irfft(spectrum)
        lags = np.arange(rate // 400, rate // 70)
        pitches.append(rate / lags[correlation[lags].argmax()])
    return float(np.median(pitches))


@pytest.mark.slow
def test_a_long_text_is_said_whole_and_without_a_click(speaking: LocalPipeline) -> None:
    """As long as its sentences one by one, which meet in silence."""
    apart = [spoken(speaking, "bruno", 3, text) for text in SENTENCES]
    whole = spoken(speaking, "bruno", 3, " ".join(SENTENCES))
    assert 0.9 < len(whole) / sum(map(len, apart)) < 1.1
    joint = len(apart[0])
    np.testing.assert_array_equal(whole[: joint - FADE_SAMPLES], apart[0][:-FADE_SAMPLES])
    beside = whole[joint - FADE_SAMPLES : joint + FADE_SAMPLES // 2]
    assert np.abs(np.diff(beside)).max() < 0.005
    quiet = np.abs(whole) < 1e-4
    silences = np.diff(np.flatnonzero(np.diff(quiet.astype(np.int8), prepend=0, append=0)))[::2]
    assert (silences > OUTPUT_SAMPLE_RATE_HZ // 50).sum() >= len(SENTENCES) - 1


@pytest.mark.slow
def test_an_edit_can_be_applied_again(speaking: LocalPipeline) -> None:
    """The model was trained on no edits: only that tokens go round, in the clip's voice."""
    edit = {"mode": Mode.EMOTION, "info": "happy", "sampling": Sampling(seed=3, max_tokens=50)}
    once, twice, again = (spoken(speaking, "elena", 3, iterations=n, **edit) for n in (1, 2, 2))
    assert len(once) > 0
    assert len(twice) > 0
    assert not np.array_equal(once, twice)
    assert np.array_equal(twice, again)


@pytest.mark.slow
async def test_its_greedy_answer_is_the_plain_forms_alone_and_in_a_full_batch() -> None:
    """Its weights, trained in bfloat16, take the products that hold them in 16 bits."""
    layout = CheckpointLayout.at(PACKAGED_TINY)
    model = load_step1(layout.editx, "cpu", torch.float32)
    vocabulary = PromptBuilder(layout.text_tokenizer).vocabulary
    rng = np.random.default_rng(4)
    base = vocabulary.audio_base
    prompts = [rng.integers(base, base + 1000, n).astype(np.int32) for n in (70, 200, 290, 11)]
    sampling = Sampling(temperature=0, grammar=False, repetition_window=0, max_tokens=30)
    expected: list[int] = []
    ids = prompts[0].tolist()
    for _ in range(30):
        logits = model(torch.tensor([ids]))[0, -1]
        best = int(logits[base : base + vocabulary.audio_tokens].argmax())
        if logits[vocabulary.stop_id] > logits[base + best]:
            break
        expected.append(best)
        ids.append(base + best)
    expected = expected[: len(expected) // GROUP_TOKENS * GROUP_TOKENS]
    assert len(expected) >= 3 * GROUP_TOKENS
    engine = Engine(
        model, vocabulary, slots=4, max_context_tokens=512, queue_size=4, queue_timeout_s=30.0
    )

    async def answer(prompt: np.ndarray) -> list[int]:
        chunks = engine.stream(prompt, sampling)
        return [token async for chunk in chunks for token in chunk.ids.tolist()]

    try:
        assert await answer(prompts[0]) == expected
        together = await asyncio.gather(*(answer(prompt) for prompt in prompts))
    finally:
        engine.close()
    assert together[0] == expected
