"""Every stage loads what `init_checkpoint` writes, and the chain speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pipeline.contracts import ReferenceClip, Sampling, SpeechRequest, VoicePrompt
from pipeline.stepaudio.checkpoint.random_init import init_checkpoint
from pipeline.stepaudio.layout import CheckpointLayout
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.step1 import load_step1
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

pytestmark = pytest.mark.unit

RATE_HZ = 22_050
CLIP_S = 2.0
MARGINS_S = 0.27  # silence that trimming leaves around the sound
MAX_TOKENS = 150
REQUEST = SpeechRequest(text="Good morning.", transcript="How are you?")


@dataclass
class Stages:
    encoder: StepVoiceEncoder
    prompts: PromptBuilder
    engine: Engine
    decoder: StepWaveDecoder

    def tokens(self, voice: VoicePrompt, seed: int) -> np.ndarray:
        """Audio token ids of one answer."""

        async def collect() -> list[np.ndarray]:
            sampling = Sampling(seed=seed, max_tokens=MAX_TOKENS)
            stream = self.engine.stream(self.prompts.build(REQUEST, voice), sampling)
            return [chunk.ids async for chunk in stream]

        return np.concatenate(asyncio.run(collect()))


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    layout = CheckpointLayout.at(init_checkpoint(tmp_path_factory.mktemp("stages")).root)
    prompts = PromptBuilder(layout.text_tokenizer)
    step1 = load_step1(layout.editx, "cpu", torch.float32)
    with ExitStack() as stack:
        yield Stages(
            encoder=stack.enter_context(
                closing(StepVoiceEncoder(layout.tokenizer, layout.vocoder, threads=1))
            ),
            prompts=prompts,
            engine=stack.enter_context(
                closing(
                    Engine(
                        step1,
                        prompts.vocabulary,
                        slots=1,
                        max_context_tokens=1024,
                        queue_size=0,
                        queue_timeout_s=1.0,
                    )
                )
            ),
            decoder=stack.enter_context(closing(StepWaveDecoder(layout.vocoder, threads=1))),
        )


def _clip(seed: int) -> ReferenceClip:
    """A gliding buzz in noise: something that moves, as speech does."""
    time_s = np.arange(int(CLIP_S * RATE_HZ)) / RATE_HZ
    f0_hz = 120 + 40 * seed + 40 * np.sin(2 * np.pi * 1.5 * time_s)
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12)) * (1 + np.sin(2 * np.pi * 4 * time_s))
    noise = np.random.default_rng(seed).normal(size=len(time_s))
    samples = (0.1 * buzz + 0.01 * noise).astype(np.float32)
    return ReferenceClip(samples, RATE_HZ, f"clip{seed}")


@pytest.fixture(scope="module")
def voice(stages: Stages) -> VoicePrompt:
    return stages.encoder.encode_blocking(_clip(0))


@pytest.mark.slow
def test_codes_follow_the_clip(stages: Stages, voice: VoicePrompt):
    for codes, code_s in ((voice.vq02, 0.06), (voice.vq06, 0.04)):
        assert CLIP_S - 0.1 <= len(codes) * code_s <= CLIP_S + MARGINS_S + 0.1
    assert len(set(voice.vq02.tolist())) >= 10
    assert len(set(voice.vq06.tolist())) >= 10
    other = stages.encoder.encode_blocking(_clip(1))
    assert (voice.vq02[:20] != other.vq02[:20]).any()
    assert (voice.vq06[:20] != other.vq06[:20]).any()
    assert np.abs(voice.speaker_embedding - other.speaker_embedding).max() > 0.01
    assert voice.prompt_mel.shape == (CLIP_S * 50, 80)


@pytest.mark.slow
def test_tokens_follow_the_seed_and_stop_by_themselves_now_and_then(
    stages: Stages, voice: VoicePrompt
):
    answers = [stages.tokens(voice, seed) for seed in range(8)]
    assert all(len(ids) % 5 == 0 for ids in answers)
    assert len({ids.tobytes() for ids in answers}) == len(answers)
    lengths = [len(ids) for ids in answers]
    assert min(lengths) < MAX_TOKENS
    assert max(lengths) >= 50
    np.testing.assert_array_equal(stages.tokens(voice, 0), answers[0])


@pytest.mark.slow
def test_audio_is_bounded_not_silent_and_follows_tokens_and_voice(
    stages: Stages, voice: VoicePrompt
):
    draw = np.random.default_rng(0)
    groups = np.concatenate(
        [draw.integers(0, 1024, (15, 2)), draw.integers(1024, 5120, (15, 3))], axis=1
    )
    ids = groups.reshape(-1).astype(np.int32)
    audio = stages.decoder.decode(ids, voice)
    assert audio.shape == (15 * 2880,)  # 120 ms a group at 24 kHz
    level = float(np.sqrt(np.mean(audio**2)))
    assert 0.01 < level < 0.4
    assert np.abs(audio).max() < 0.99
    groups_of_samples = audio.reshape(-1, 2880)
    assert groups_of_samples.std(axis=1).min() > 0.005  # sound everywhere
    np.testing.assert_array_equal(stages.decoder.decode(ids, voice), audio)
    changed = groups[::-1].reshape(-1).astype(np.int32)
    assert np.abs(stages.decoder.decode(changed, voice) - audio).max() > 0.01
    other = stages.encoder.encode_blocking(_clip(1))
    assert np.abs(stages.decoder.decode(ids, other) - audio).max() > 0.001
