"""The whole reference encoder on small files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.contracts import ReferenceClip, VoiceEncoder, VoicePrompt
from pipeline.errors import AudioError, CheckpointError, ClipDurationError, SampleRateError
from pipeline.stepaudio.config import MelConfig
from pipeline.stepaudio.layout import PACKAGED_TINY, PARAFORMER, CheckpointLayout
from pipeline.stepaudio.tokenizer import voice_encoder
from pipeline.stepaudio.tokenizer.linguistic import ClipFrames
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from tests.encoder_files import write_encoder_files, write_speech_tokenizer
from tests.waiting import GIVE_UP_S

pytestmark = pytest.mark.unit


def clip(duration_s: float = 1.0, rate_hz: int = 24_000, seed: int = 0) -> ReferenceClip:
    random = np.random.RandomState(seed)
    samples = random.standard_normal(int(duration_s * rate_hz)).astype(np.float32) * 0.1
    samples.setflags(write=False)  # as a record from the object store is
    return ReferenceClip(samples, rate_hz, digest=str(seed))


def fields(voice: VoicePrompt) -> list[object]:
    arrays = (voice.vq02, voice.vq06, voice.prompt_mel, voice.speaker_embedding)
    return [*(array.tobytes() for array in arrays), voice.duration_s, voice.fingerprint]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_encoder_files(tmp_path_factory.mktemp("encoder"))


class Passes:
    """Counts the clips in every pass of vq02; passes wait until the gate is open."""

    def __init__(self, encoder: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self._begun = threading.Semaphore(0)
        self._real = encoder._linguistic.encode_frames
        monkeypatch.setattr(encoder._linguistic, "encode_frames", self._encode)

    def _encode(self, clips: list[ClipFrames]) -> list[np.ndarray]:
        self.sizes.append(len(clips))
        self._begun.release()
        assert self.gate.wait(10)
        return self._real(clips)

    async def begun(self, n_passes: int) -> None:
        for _ in range(n_passes):
            assert await asyncio.to_thread(self._begun.acquire, timeout=10)


@pytest.fixture(scope="module")
def batching(directories: tuple[Path, Path]) -> Iterator[StepVoiceEncoder]:
    made = StepVoiceEncoder(*directories, threads=1, batch_s=60.0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def encoder(directories: tuple[Path, Path]) -> Iterator[StepVoiceEncoder]:
    made = StepVoiceEncoder(*directories, threads=1)
    yield made
    made.close()


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 192_000])
def test_a_prompt_has_all_parts(encoder: StepVoiceEncoder, rate_hz: int) -> None:
    voice = encoder.encode_blocking(clip(1.2, rate_hz))
    # 1.2 s of noise, nothing trimmed, 0.27 s of margins added: 1.47 s
    assert voice.n_groups == 12
    assert (len(voice.vq02), voice.vq02.dtype) == (25, np.int16)
    assert (len(voice.vq06), voice.vq06.dtype) == (37, np.int16)
    assert (voice.prompt_mel.shape, voice.prompt_mel.dtype) == ((60, 80), np.float32)
    assert (voice.speaker_embedding.shape, voice.speaker_embedding.dtype) == ((192,), np.float32)
    assert voice.duration_s == pytest.approx(1.2)
    assert voice.fingerprint == encoder.fingerprint


async def test_async_encodes_in_parallel_equal_serial_ones(encoder: StepVoiceEncoder) -> None:
    protocol: VoiceEncoder = encoder
    clips = [clip(0.5 + 0.1 * seed, seed=seed) for seed in range(6)]
    serial = [encoder.encode_blocking(one) for one in clips]
    parallel = await asyncio.gather(*(protocol.encode(one) for one in clips))
    assert [fields(one) for one in parallel] == [fields(one) for one in serial]
    assert len({one.vq06.tobytes() for one in serial}) == len(clips)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "embedded"])
async def test_clips_that_wait_share_a_pass_and_have_the_prompts_they_have_alone(
    directories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "embedded":
        layout = CheckpointLayout.at(PACKAGED_TINY)
        directories = layout.tokenizer, layout.vocoder
    encoder = StepVoiceEncoder(*directories, threads=1, batch_s=60.0)
    lengths_s = [1.0, 0.5, 2.03, 6.0, 0.31, 3.3, 1.7, 0.777]
    rates_hz = [16_000, 24_000, 44_100, 8_000]
    clips = [clip(s, rates_hz[i % 4], seed=i) for i, s in enumerate(lengths_s)]
    alone = [encoder.encode_blocking(one) for one in clips]
    passes = Passes(encoder, monkeypatch)
    tasks = [asyncio.create_task(encoder.encode(one)) for one in clips]
    await passes.begun(2)
    passes.gate.set()
    together = await asyncio.gather(*tasks)
    encoder.close()
    assert passes.sizes == [1, 1, 6]
    assert [fields(one) for one in together] == [fields(one) for one in alone]


async def test_clips_that_fail_fail_alone(
    batching: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [clip(0.5 + 0.1 * seed, seed=seed) for seed in range(5)]
    alone = [batching.encode_blocking(one) for one in good]
    endless = ReferenceClip(np.full(24_000, np.inf, np.float32), 24_000, digest="")
    bad = [endless, clip(0.05), clip(1.0, 7_999), clip(1.0, seed=77), clip(1.0, seed=78)]
    cut, broken = bad[3].samples[:9].tolist(), bad[4].samples[:9].tolist()
    real = voice_encoder.clip_tokenizer_wav, batching._embed_speaker

    def trimmed(samples: torch.Tensor, rate_hz: int) -> torch.Tensor:
        waveform = real[0](samples, rate_hz)
        return waveform[:1_000] if samples[:9].tolist() == cut else waveform

    def embed(samples: torch.Tensor, rate_hz: int) -> np.ndarray:
        if samples[:9].tolist() == broken:
            raise RuntimeError("out of memory")
        return real[1](samples, rate_hz)

    monkeypatch.setattr(voice_encoder, "clip_tokenizer_wav", trimmed)
    monkeypatch.setattr(batching, "_embed_speaker", embed)
    passes = Passes(batching, monkeypatch)
    order = [good[0], good[1], bad[0], good[2], bad[1], bad[2], good[3], bad[3], bad[4], good[4]]
    tasks = [asyncio.create_task(batching.encode(one)) for one in order]
    await passes.begun(2)
    passes.gate.set()
    prompts = await asyncio.gather(*tasks, return_exceptions=True)
    assert passes.sizes == [1, 1, 5]  # three never came so far
    assert [fields(prompts[i]) for i in (0, 1, 3, 6, 9)] == [fields(one) for one in alone]
    errors = [type(prompts[i]) for i in (2, 4, 5, 7, 8)]
    expected = [AudioError, ClipDurationError, SampleRateError, ClipDurationError, RuntimeError]
    assert errors == expected


async def test_a_pass_that_fails_fails_its_clips_and_no_others(
    batching: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> list[np.ndarray]:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(batching._linguistic, "encode_frames", broken)
        tasks = [batching.encode(clip(seed=seed)) for seed in range(4)]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["out of memory"] * 4
    assert (await batching.encode(clip())).n_groups


async def test_a_caller_that_goes_leaves_the_others_theirs(
    batching: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip(seed=seed) for seed in range(6)]
    alone = [batching.encode_blocking(one) for one in clips]
    passes = Passes(batching, monkeypatch)
    tasks = [asyncio.create_task(batching.encode(one)) for one in clips]
    await passes.begun(2)
    for gone in (1, 3):  # at work, and waiting
        tasks[gone].cancel()
    await asyncio.sleep(0.01)
    passes.gate.set()
    prompts = await asyncio.gather(*tasks, return_exceptions=True)
    assert passes.sizes == [1, 1, 3]
    for i, prompt in enumerate(prompts):
        if i in (1, 3):
            assert isinstance(prompt, asyncio.CancelledError)
        else:
            assert fields(prompt) == fields(alone[i])


async def test_closing_lets_what_is_at_work_end(
    directories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = StepVoiceEncoder(*directories, threads=1, concurrent_batches=1, batch_s=60.0)
    passes = Passes(encoder, monkeypatch)
    tasks = [asyncio.create_task(encoder.encode(clip(seed=seed))) for seed in range(3)]
    await passes.begun(1)
    passes.gate.set()
    encoder.close()
    first, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, VoicePrompt)
    assert all(isinstance(other, RuntimeError) for other in others)  # a pool that takes no more


async def test_encode_leaves_the_event_loop_free(
    encoder: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work waits for something that only the event loop can do."""
    loop, started, may_go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    real = voice_encoder.clip_tokenizer_wav

    def slow(samples: torch.Tensor, rate_hz: int) -> torch.Tensor:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result(timeout=GIVE_UP_S)
        return real(samples, rate_hz)

    monkeypatch.setattr(voice_encoder, "clip_tokenizer_wav", slow)
    work = asyncio.create_task(encoder.encode(clip()))
    async with asyncio.timeout(GIVE_UP_S):
        await started.wait()
        assert not work.done()
        may_go_on.set()
        assert (await work).n_groups


def test_a_second_instance_gives_the_same_prompt(
    encoder: StepVoiceEncoder, directories: tuple[Path, Path]
) -> None:
    second = StepVoiceEncoder(*directories, threads=2)
    try:
        assert fields(second.encode_blocking(clip())) == fields(encoder.encode_blocking(clip()))
    finally:
        second.close()


@pytest.mark.parametrize("n_samples", [0, 1, 2_879])
def test_a_clip_shorter_than_a_group_is_refused(encoder: StepVoiceEncoder, n_samples: int) -> None:
    short = ReferenceClip(np.ones(n_samples, np.float32), 24_000, digest="")
    with pytest.raises(ClipDurationError, match=r"at least 0\.12 s"):
        encoder.encode_blocking(short)


def test_the_shortest_clip_is_encoded(encoder: StepVoiceEncoder) -> None:
    assert encoder.encode_blocking(clip(0.12)).n_groups >= 1


def test_too_few_codes_are_refused(
    encoder: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_encoder, "clip_tokenizer_wav", lambda samples, _: samples[:1_000])
    with pytest.raises(ClipDurationError, match=r"after trimming silence the clip holds 1 \+ 2"):
        encoder.encode_blocking(clip())


@pytest.mark.parametrize("rate_hz", [7_999, 192_001])
def test_a_strange_sample_rate_is_refused(encoder: StepVoiceEncoder, rate_hz: int) -> None:
    with pytest.raises(SampleRateError, match=f"{rate_hz} Hz; allowed are 8000 to 192000"):
        encoder.encode_blocking(clip(1.0, rate_hz))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(encoder: StepVoiceEncoder, value: float) -> None:
    samples = np.zeros(24_000, np.float32)
    samples[7] = value
    with pytest.raises(AudioError, match="not finite"):
        encoder.encode_blocking(ReferenceClip(samples, 24_000, digest=""))


async def test_an_error_in_a_branch_reaches_the_caller(
    encoder: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(voice_encoder, "clip_prompt_mel", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        await encoder.encode(clip())


def test_every_file_and_version_is_in_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b"]
    for name in names:
        (tmp_path / name).write_text("same")
    files = [tmp_path / name for name in names]
    mel_config = MelConfig()
    seen = {voice_encoder.fingerprint_files(files, mel_config)}
    assert seen == {voice_encoder.fingerprint_files(files, mel_config)}
    (tmp_path / "b").write_text("other")
    seen.add(voice_encoder.fingerprint_files(files, mel_config))
    seen.add(voice_encoder.fingerprint_files(files, MelConfig(num_mels=100)))
    monkeypatch.setattr(voice_encoder, "PREPROCESSING_VERSION", 1_000)
    seen.add(voice_encoder.fingerprint_files(files, mel_config))
    monkeypatch.setattr(voice_encoder, "VOICE_PROMPT_SCHEMA", 1_000)
    seen.add(voice_encoder.fingerprint_files(files, mel_config))
    assert len(seen) == 5


def test_the_fingerprint_covers_the_files_in_use(tmp_path: Path) -> None:
    tokenizer_dir, vocoder_dir = write_encoder_files(tmp_path)
    first = StepVoiceEncoder(tokenizer_dir, vocoder_dir)
    write_speech_tokenizer(tokenizer_dir / voice_encoder.SPEECH_TOKENIZER, offset=-1)
    second = StepVoiceEncoder(tokenizer_dir, vocoder_dir)
    assert first.fingerprint != second.fingerprint


def test_a_lighter_paraformer_loads_by_its_config_and_has_its_own_entries(tmp_path: Path) -> None:
    """Sizes come from config.yaml alone; another fingerprint means other cache entries."""
    usual_root, lighter_root = tmp_path / "usual", tmp_path / "lighter"
    usual_root.mkdir()
    lighter_root.mkdir()
    usual = StepVoiceEncoder(*write_encoder_files(usual_root))
    files = write_encoder_files(lighter_root, num_blocks=1, output_size=16, linear_units=24)
    lighter = StepVoiceEncoder(*files)
    one, other = usual.encode_blocking(clip()), lighter.encode_blocking(clip())
    assert len(other.vq02) == len(one.vq02) > 0
    assert not np.array_equal(other.vq02, one.vq02)
    assert np.array_equal(other.vq06, one.vq06)
    assert lighter.fingerprint == other.fingerprint != usual.fingerprint
    for encoder in (usual, lighter):
        encoder.close()


def test_all_missing_files_are_named(tmp_path: Path) -> None:
    tokenizer_dir, vocoder_dir = write_encoder_files(tmp_path)
    (tokenizer_dir / PARAFORMER / "am.mvn").unlink()
    (vocoder_dir / voice_encoder.SPEAKER_MODEL).unlink()
    with pytest.raises(CheckpointError, match=r"missing: .*am\.mvn, .*campplus\.onnx"):
        StepVoiceEncoder(tokenizer_dir, vocoder_dir)
