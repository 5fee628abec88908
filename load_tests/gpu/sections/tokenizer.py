# pyright: basic
"""The tokenizer at full shape: vq02 on the device, its ONNX parts where they can run, whole misses.

Where onnxruntime has no CUDA, its models run on the CPU; rows name the provider.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from load_tests.bench import tokenizer_parts as bench
from load_tests.bench.report import Row, median_s
from load_tests.full_size.tokenizer import write_full_onnx
from load_tests.gpu.sections.profile import kernel_table
from load_tests.gpu.sections.section import Section
from pipeline.stepaudio.config import MelConfig
from pipeline.stepaudio.layout import PARAFORMER
from pipeline.stepaudio.parity.run import tf32
from pipeline.stepaudio.tokenizer.features import (
    clip_prompt_mel,
    clip_speaker_fbank,
    clip_tokenizer_wav,
    speaker_fbank,
    whisper_mel,
)
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder, LinguisticTokenizer
from pipeline.stepaudio.tokenizer.onnx_session import CPU, CUDA
from pipeline.stepaudio.tokenizer.semantic import SemanticTokenizer
from pipeline.stepaudio.tokenizer.speaker import SpeakerEncoder
from pipeline.stepaudio.tokenizer.voice_encoder import (
    CODEBOOK,
    SPEAKER_MODEL,
    SPEECH_TOKENIZER,
    StepVoiceEncoder,
)
from tests.encoder_files import write_encoder_files

THREADS = (4, 8)  # of torch and of onnxruntime, as a replica is given them
REPEATS = 5


def measure(section: Section) -> None:
    """Fill the section."""
    usual_threads = torch.get_num_threads()
    try:  # TF32 as the replica has it: codes must be exact
        with tf32(allowed=False), tempfile.TemporaryDirectory() as name:
            _measure(section, _Subject(Path(name), section))
    finally:
        torch.set_num_threads(usual_threads)


def _measure(section: Section, subject: _Subject) -> None:
    few, many = (1, 1) if section.sizes.is_rehearsal else THREADS
    torch.set_num_threads(many)
    section.facts["onnx"] = subject.provider
    section.part("vq02 against its loop", lambda: subject.against_loop(many), needs_s=14)
    section.part("kernels of vq02", subject.kernels, needs_s=6)
    for lengths_s in bench.BATCHES_S[: 2 if section.sizes.is_rehearsal else None]:
        work = subject.batch(lengths_s)
        section.part(bench.batch_name(lengths_s, section.device), work, needs_s=1.5)
    section.part(f"misses, {many} threads", lambda: subject.misses(many), needs_s=14)
    section.part("misses in batches", lambda: subject.batched_misses(many), needs_s=6)
    section.part("parts of a miss", subject.parts, needs_s=1)
    section.part(f"ONNX parts, {many} threads", lambda: subject.onnx_parts(many), needs_s=4)
    if few < many:
        if subject.provider == CPU:
            section.part(f"ONNX parts, {few} threads", lambda: subject.onnx_parts(few), needs_s=4)
        section.part(f"misses, {few} threads", lambda: subject.misses(few), needs_s=8)


class _Subject:
    """What is measured, each piece made when it is first asked for."""

    def __init__(self, directory: Path, section: Section) -> None:
        import onnxruntime

        self._section, self._device = section, section.device
        self._size = {**bench.FULL_SIZE, "num_blocks": section.sizes.vq02_layers}
        self._is_full = section.sizes.voices == bench.FULL
        self._directory = directory
        has_cuda = section.is_cuda and CUDA in onnxruntime.get_available_providers()
        self.provider = CUDA if has_cuda else CPU
        self._onnx_device = "cuda" if has_cuda else "cpu"

    @cached_property
    def _vq02_files(self) -> tuple[Path, Path]:
        """With ONNX models that only stand in."""
        torch.manual_seed(0)
        return write_encoder_files(self._directory / "model", seed=None, **self._size)

    @cached_property
    def _files(self) -> tuple[Path, Path]:
        if self._is_full:
            write_full_onnx(*self._vq02_files)
        return self._vq02_files

    @cached_property
    def _loaded(self) -> LinguisticTokenizer:
        tokenizer, _ = self._vq02_files
        return LinguisticTokenizer(tokenizer / PARAFORMER, tokenizer / CODEBOOK, self._device)

    @property
    def _tokenizer(self) -> LinguisticTokenizer:
        """On the device, wherever a part that failed has left it."""
        bench.moved(self._loaded._encoder, self._device)
        return self._loaded

    @property
    def _encoder(self) -> LinguisticEncoder:
        return self._tokenizer._encoder

    def against_loop(self, n_threads: int) -> list[Row]:
        """All chunks at once on the device, the loop on the CPU and on the device."""
        return bench.against_loop(self._encoder, self._device, n_threads, repeats=2)

    def batch(self, lengths_s: list[float]) -> Callable[[], list[Row]]:
        """Clips in one pass."""
        return lambda: bench.compare_batch(self._encoder, lengths_s, self._device)

    def kernels(self) -> list[Row]:
        """Profiles of one clip and of several; how long they take in kernels, and in all."""
        rows = []
        for n_clips in (1, bench.TOGETHER):
            clips = [
                self._encoder.frames(bench.speechlike_16k(bench.CLIP_S, i)) for i in range(n_clips)
            ]

            @torch.inference_mode()
            def work(clips: list = clips) -> None:
                for hidden in self._encoder.encode_frames(clips):
                    hidden.cpu()

            table = kernel_table(work, self._device)
            self._section.add_table(f"vq02, {n_clips} of {bench.CLIP_S:g} s", table)
            whole_ms, kernels_ms = median_s(work, REPEATS) * 1e3, table[-1]["us"] / 1e3
            name = f"vq02 on {self._device}, {n_clips} of {bench.CLIP_S:g} s"
            rows.append(Row(f"{name}: in kernels", kernels_ms, "ms"))
            rows.append(Row(f"{name}: in all", whole_ms, "ms"))
        return rows

    def misses(self, n_threads: int) -> list[Row]:
        """A whole miss, and several at a time.

        The bar is one of a GPU: it says nothing where most of the work is on the CPU.
        """
        bar_ms = bench.BAR_MS if self.provider == CUDA and self._is_full else None
        return bench.measure_miss(self._opener(n_threads), self._name(n_threads), bar_ms)

    def batched_misses(self, n_threads: int) -> list[Row]:
        """Several at a time, vq02 in one pass."""
        return bench.measure_batched_misses(self._opener(n_threads), self._name(n_threads))

    def _name(self, n_threads: int) -> str:
        sizes = self._section.sizes.voices
        place = f"vq02 on {self._device}, ONNX on {self.provider}"
        return f"{sizes}, {place}, {n_threads} threads, {bench.CLIP_S:g} s clip"

    def _opener(self, n_threads: int) -> bench.OpenEncoder:
        def opened(batch_s: float) -> StepVoiceEncoder:
            torch.set_num_threads(n_threads)
            encoder = StepVoiceEncoder(
                *self._files, device=self._onnx_device, threads=n_threads, batch_s=batch_s
            )
            encoder._linguistic = self._tokenizer  # on the device, where ONNX perhaps cannot be
            return encoder

        return opened

    def parts(self) -> list[Row]:
        """What a miss consists of, one after the other; all but vq02's encoder on the CPU."""
        rate_hz, tokenizer = bench.CLIP_RATE_HZ, self._tokenizer
        clip = torch.from_numpy(bench.speechlike(bench.CLIP_S, rate_hz, 0))
        waveform = clip_tokenizer_wav(clip, rate_hz)
        frames = tokenizer.frames(waveform)
        works = {
            "prompt mel": lambda: clip_prompt_mel(clip, rate_hz, MelConfig()),
            "speaker's fbank": lambda: clip_speaker_fbank(clip, rate_hz),
            "waveform at 16 kHz": lambda: clip_tokenizer_wav(clip, rate_hz),
            "Whisper's mel": lambda: whisper_mel(waveform),
            "vq02's front end": lambda: tokenizer.frames(waveform),
            "vq02's encoder and codes": lambda: tokenizer.encode_frames([frames]),
        }
        return [
            Row(f"part of a miss: {name}", median_s(work, REPEATS) * 1e3, "ms")
            for name, work in works.items()
        ]

    def onnx_parts(self, n_threads: int) -> list[Row]:
        """vq06 and the speaker model alone."""
        tokenizer, vocoder = self._files
        waveform = bench.speechlike_16k(bench.CLIP_S, 0)
        fbank = speaker_fbank(waveform)
        session = (self._onnx_device, n_threads)
        semantic = SemanticTokenizer(tokenizer / SPEECH_TOKENIZER, *session)
        speaker = SpeakerEncoder(vocoder / SPEAKER_MODEL, *session)
        works = {
            ("vq06", semantic): lambda: semantic.encode(waveform),
            ("speaker", speaker): lambda: speaker.encode(fbank),
        }
        return [
            Row(
                f"{name} on {model._session.get_providers()[0]}, {n_threads} threads,"
                f" {bench.CLIP_S:g} s clip",
                median_s(work, REPEATS) * 1e3,
                "ms",
            )
            for (name, model), work in works.items()
        ]
