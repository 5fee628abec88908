"""A job's one file, its subtitles and its manifest, from the parts of its segments.

The file lies in slabs: neither who joins hours of speech nor who sends them holds more than one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from deployments.jobs.documents import JobPlan, JobSegment, PartFacts, ResultNote
from deployments.jobs.flac import from_flac
from deployments.jobs.parts import Parts
from deployments.jobs.store import JobName
from deployments.jobs.subtitles import Subtitle, to_srt, to_vtt
from deployments.marks.signing import Signer
from deployments.voices.shelf import Shelf
from pipeline.audio.condition import SAFE_PEAK, limit_peaks
from pipeline.audio.encode import make_encoder, wav_header
from pipeline.audio.joints import faded
from pipeline.audio.levels import SILENT_LUFS
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.errors import StageError, UnknownJobError

SLAB_BYTES = 4 * 2**20
MOST_BYTES = 256 * 2**20  # of subtitles, or of a manifest
_PCM_BYTES = 2
MANIFEST, SRT, VTT = "manifest.json", "subtitles.srt", "subtitles.vtt"
_NOTE = "note.json"


@dataclass(frozen=True, slots=True)
class Placed:
    """A part in the file. Times in samples of 24 kHz."""

    facts: PartFacts
    segment: JobSegment
    begin: int
    gain: float

    @property
    def end(self) -> int:
        return self.begin + self.facts.n_samples


class Results:
    """Of every job. Raises as Shelf does. signer: signs the one file, where its format can be."""

    def __init__(self, shelf: Shelf, signer: Signer | None = None) -> None:
        self._shelf = shelf
        self._signer = signer
        self._parts = Parts(shelf)

    async def build(
        self,
        name: JobName,
        number: int,
        plan: JobPlan,
        segments: Sequence[JobSegment],
        parts: Mapping[int, PartFacts],
    ) -> None:
        """Make them under a number; the same parts give the same bytes, whoever joins them.

        But for a signature: of two who sign, the one whose note comes first is heard of.
        """
        placed = list(_placed(plan, segments, parts))
        signer = self._signer
        if signer is not None and signer.signs(plan.response_format):
            note = await self._signed(name, number, plan, placed, signer)
        else:
            note = await self._joined(name, number, plan, placed)
        lines = [
            Subtitle(
                one.begin / OUTPUT_SAMPLE_RATE_HZ, one.end / OUTPUT_SAMPLE_RATE_HZ, one.segment.text
            )
            for one in placed
        ]
        manifest = _manifest(name, plan, segments, parts, placed, note)
        files = {
            SRT: to_srt(lines).encode(),
            VTT: to_vtt(lines).encode(),
            MANIFEST: json.dumps(manifest, ensure_ascii=False, indent=1).encode(),
        }
        for file, data in files.items():
            await self._shelf.publish_bytes(_path(name, number, file), data, len(data))
        await self._shelf.publish(_path(name, number, _NOTE), note.written())

    async def note(self, name: JobName, number: int) -> ResultNote:
        """What the one file is. Raises UnknownJobError when it is gone."""
        document = await self._shelf.read(_path(name, number, _NOTE), is_remembered=False)
        if document is None:
            raise UnknownJobError("the job's results are gone", param="job_id")
        return ResultNote.read(document)

    async def file(self, name: JobName, number: int, file: str) -> bytes:
        """Subtitles, or the manifest. Raises UnknownJobError when they are gone."""
        data = await self._shelf.read_bytes(_path(name, number, file), MOST_BYTES)
        if data is None:
            raise UnknownJobError("the job's results are gone", param="job_id")
        return data

    async def audio(self, name: JobName, number: int, note: ResultNote) -> AsyncGenerator[bytes]:
        """The one file, slab by slab. Raises StageError when a slab is gone."""
        for slab in range(note.n_slabs):
            path = _path(name, number, _slab(slab, note.signed))
            data = await self._shelf.read_bytes(path, 2 * SLAB_BYTES)
            if data is None:
                raise StageError("a part of the job's file is missing", detail=path)
            yield data

    async def _joined(
        self, name: JobName, number: int, plan: JobPlan, placed: Sequence[Placed]
    ) -> ResultNote:
        is_wav = plan.response_format == "wav"
        file = _File(plan)
        slab = 1 if is_wav else 0  # a wav file's head, which knows its length, comes first
        async for _ in self._filled(name, file, placed):
            while full := file.take(SLAB_BYTES):
                await self._put(name, number, slab, full)
                slab += 1
        while rest := file.take(1):
            await self._put(name, number, slab, rest)
            slab += 1
        sha = file.sha
        size_bytes = file.size_bytes
        if is_wav:
            head = file.wav_head()
            await self._put(name, number, 0, head)
            sha, size_bytes = await self._sha_of(name, number, slab), size_bytes + len(head)
        return _note_of(plan, file, placed, size_bytes=size_bytes, n_slabs=slab, sha256=sha)

    async def _signed(
        self,
        name: JobName,
        number: int,
        plan: JobPlan,
        placed: Sequence[Placed],
        signer: Signer,
    ) -> ResultNote:
        """The same, signed: the file lies on this machine's disk meanwhile."""
        file, token, whole, slab = _File(plan), secrets.token_hex(8), hashlib.sha256(), 0
        with TemporaryFile() as audio, TemporaryFile() as made:
            if plan.response_format == "wav":
                await asyncio.to_thread(audio.write, file.wav_head())
            async for _ in self._filled(name, file, placed):
                while full := file.take(1):
                    await asyncio.to_thread(audio.write, full)
            audio.seek(0)
            if plan.response_format == "wav":
                await asyncio.to_thread(audio.write, file.wav_head())
                audio.seek(0)
            await asyncio.to_thread(signer.sign_file, audio, made, plan.response_format)
            size_bytes = made.seek(0, os.SEEK_END)
            made.seek(0)
            while data := await asyncio.to_thread(made.read, SLAB_BYTES):
                whole.update(data)
                await self._put(name, number, slab, data, token)
                slab += 1
        sizes = {"size_bytes": size_bytes, "n_slabs": slab, "sha256": whole.hexdigest()}
        return _note_of(plan, file, placed, **sizes, signed=token)

    async def _filled(
        self, name: JobName, file: _File, placed: Sequence[Placed]
    ) -> AsyncGenerator[None]:
        """Put the parts into a file, one after another, and end it; yields after each."""
        at = 0
        for one in placed:
            data = await self._parts.audio(name, one.facts)
            await asyncio.to_thread(file.add, one.begin - at, data, one.gain)
            at = one.end
            yield
        await asyncio.to_thread(file.finish)
        yield

    async def _sha_of(self, name: JobName, number: int, n_slabs: int) -> str:
        whole = hashlib.sha256()
        for slab in range(n_slabs):
            data = await self._shelf.read_bytes(_path(name, number, _slab(slab)), 2 * SLAB_BYTES)
            whole.update(data or b"")
        return whole.hexdigest()

    async def _put(
        self, name: JobName, number: int, slab: int, data: bytes, signed: str = ""
    ) -> None:
        await self._shelf.publish_bytes(_path(name, number, _slab(slab, signed)), data, len(data))


class _File:
    """The one file on its way. Its methods block, but `take`."""

    def __init__(self, plan: JobPlan) -> None:
        audio_format = "pcm" if plan.response_format == "wav" else plan.response_format
        self._encoder = make_encoder(audio_format, sample_rate_hz=plan.sample_rate_hz)
        self.media_type = self._encoder.media_type
        self.sample_rate_hz = self._encoder.sample_rate_hz
        self.size_bytes = 0
        self._held = bytearray()
        self._sha = hashlib.sha256()

    @property
    def sha(self) -> str:
        return self._sha.hexdigest()

    def add(self, n_silent: int, part: bytes, gain: float) -> None:
        """Silence, then a part."""
        while n_silent > 0:
            n_now = min(n_silent, OUTPUT_SAMPLE_RATE_HZ)
            self._put(np.zeros(n_now, np.float32))
            n_silent -= n_now
        samples = np.concatenate(list(from_flac(part)))
        joined = faded(samples, at_start=True, at_end=True) * np.float32(gain)
        self._put(joined if gain == 1 else limit_peaks(joined, SAFE_PEAK))

    def wav_head(self) -> bytes:
        """Of what there is so far."""
        return wav_header(self.sample_rate_hz, n_samples=self.size_bytes // _PCM_BYTES)

    def finish(self) -> None:
        self._keep(self._encoder.finish())

    def take(self, least_bytes: int) -> bytes:
        """The next slab, once there are so many bytes; else none."""
        if len(self._held) < least_bytes:
            return b""
        taken = bytes(self._held[:SLAB_BYTES])
        del self._held[:SLAB_BYTES]
        return taken

    def _put(self, samples: Float32Array) -> None:
        self._keep(self._encoder.encode(samples))

    def _keep(self, data: bytes) -> None:
        self._held += data
        self._sha.update(data)
        self.size_bytes += len(data)


def _placed(
    plan: JobPlan, segments: Sequence[JobSegment], parts: Mapping[int, PartFacts]
) -> Iterator[Placed]:
    """Parts in order. A subtitle's is heard at its time, or as soon as the one before has ended."""
    gains = _gains(plan.target_lufs, segments, parts)
    at = 0
    for number, segment in enumerate(segments):
        facts = parts.get(number)
        if facts is None or facts.fault is not None:
            continue
        if segment.cue is not None:
            at = max(at, round(segment.cue.begin_s * OUTPUT_SAMPLE_RATE_HZ))
        yield Placed(facts, segment, at, gains[segment.voice])
        at += facts.n_samples + round(segment.pause_s * OUTPUT_SAMPLE_RATE_HZ)


def _gains(
    target_lufs: float | None, segments: Sequence[JobSegment], parts: Mapping[int, PartFacts]
) -> dict[str, float]:
    """By voice: what brings all that it says to the target."""
    said: dict[str, list[PartFacts]] = {}
    for number, segment in enumerate(segments):
        facts = parts.get(number)
        of_voice = said.setdefault(segment.voice, [])
        if facts is not None and facts.fault is None and facts.loudness_lufs > SILENT_LUFS:
            of_voice.append(facts)
    return {voice: _gain(target_lufs, of_voice) for voice, of_voice in said.items()}


def _gain(target_lufs: float | None, parts: Sequence[PartFacts]) -> float:
    if target_lufs is None or not parts:
        return 1.0
    n_samples = sum(facts.n_samples for facts in parts)
    power = sum(facts.n_samples * 10 ** (facts.loudness_lufs / 10) for facts in parts) / n_samples
    return 10 ** ((target_lufs - 10 * math.log10(power)) / 20)


def _manifest(
    name: JobName,
    plan: JobPlan,
    segments: Sequence[JobSegment],
    parts: Mapping[int, PartFacts],
    placed: Sequence[Placed],
    note: ResultNote,
) -> dict[str, Any]:
    """What was made, with the digest of everything."""
    places = {one.facts.number: one for one in placed}
    return {
        "object": "audio.job.manifest",
        "job": name.id,
        "label": plan.label,
        "file": {
            "response_format": note.response_format,
            "media_type": note.media_type,
            "sample_rate": note.sample_rate_hz,
            "audio_s": round(note.audio_s, 3),
            "size_bytes": note.size_bytes,
            "sha256": note.sha256,
        },
        "segments": [
            told_segment(number, segment, parts.get(number), places.get(number))
            for number, segment in enumerate(segments)
        ],
    }


def told_segment(
    number: int, segment: JobSegment, facts: PartFacts | None, placed: Placed | None = None
) -> dict[str, Any]:
    """One segment, for JSON. facts: None while there are none."""
    made = facts is not None and facts.fault is None
    times = None
    if placed is not None:
        times = [round(at / OUTPUT_SAMPLE_RATE_HZ, 3) for at in (placed.begin, placed.end)]
    return {
        "segment": number,
        "text": segment.text,
        "voice": segment.voice,
        "status": "pending" if facts is None else "done" if made else "failed",
        "error": facts.fault.model_dump() if facts is not None and facts.fault else None,
        "revision": facts.revision if facts else 0,
        "seed": facts.seed if facts and made else None,
        "verdict": str(facts.verdict) if facts and made else None,
        "is_retried": bool(facts and facts.is_retried),
        "audio_s": round(facts.n_samples / OUTPUT_SAMPLE_RATE_HZ, 3) if facts and made else None,
        "begin_s": times[0] if times else None,
        "end_s": times[1] if times else None,
        "cue": [segment.cue.begin_s, segment.cue.end_s] if segment.cue else None,
        "stretch": facts.stretch if facts and made else None,
        "is_hurried": bool(facts and facts.is_hurried),
        "over_s": facts.over_s if facts and made else None,
        "usage": {
            "input_tokens": facts.input_tokens if facts else 0,
            "output_tokens": facts.output_tokens if facts else 0,
            "total_tokens": facts.input_tokens + facts.output_tokens if facts else 0,
        },
        "digest": facts.audio if facts and made else None,
    }


def _note_of(plan: JobPlan, file: _File, placed: Sequence[Placed], **facts: Any) -> ResultNote:
    return ResultNote(
        response_format=plan.response_format,
        media_type="audio/wav" if plan.response_format == "wav" else file.media_type,
        sample_rate_hz=file.sample_rate_hz,
        audio_s=placed[-1].end / OUTPUT_SAMPLE_RATE_HZ if placed else 0.0,
        **facts,
    )


def _slab(number: int, signed: str = "") -> str:
    return f"signed-{signed}-{number:06d}" if signed else f"audio-{number:06d}"


def _path(name: JobName, number: int, file: str) -> str:
    return f"{name.place('results')}/{number:08d}/{file}"
