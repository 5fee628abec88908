"""Whether a file says that it is synthetic: its watermark, and its content credentials."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from deployments.marks.marking import WATERMARK
from deployments.marks.search import MarkFinder
from deployments.marks.signing import SYNTHETIC, credentials, has_reader
from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.audio.encode import to_pcm16
from pipeline.audio.resample import StreamResampler
from pipeline.audio.sniff import sniff
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Int16Array
from pipeline.marks.finding import Finding

LEAST_S = 0.1
CHECK = "content_provenance_check"
_DETECTED = {True: "detected", False: "not_detected"}
_HOLDERS = {"wav": "audio/wav", "flac": "audio/flac", "mov": "audio/mp4"}  # by sniff's names
_ADTS_MASK, _ADTS = 0xFFF6, 0xFFF0


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """What was found. told: of content credentials, for JSON; None where nothing could be said."""

    mark: Finding
    told: dict[str, Any] | None

    @property
    def is_synthetic(self) -> bool:
        """By its watermark, or by credentials that hold."""
        return self.mark.is_marked or (self.told or {}).get("outcome") == _DETECTED[True]

    def report(self) -> dict[str, Any]:
        """As OpenAI's clients read it; `watermark` is a type of ours."""
        mark = self.mark
        found = {
            "type": "watermark",
            "outcome": _DETECTED[mark.is_marked],
            "watermark": WATERMARK,
            "score": round(mark.score, 3),
            "checked_s": round(mark.heard_s, 3),
            "marked_s": round(mark.marked_s, 3),
            "stretches": [
                [round(one.begin_s, 3), round(one.end_s, 3), round(one.score, 3)]
                for one in mark.stretches
            ],
            "generated_at": None,
            "model": None,
        }
        results = [found] if self.told is None else [found, self.told]
        return {"object": CHECK, "created_at": int(time.time()), "results": results}


async def check(data: bytes, finder: MarkFinder, most_s: float) -> Checked:
    """Of a file, of which so many seconds are listened to.

    Raises UndecodableAudioError, SampleRateError or ClipDurationError for what is no audio, and as
    the finder does.
    """
    samples = await asyncio.to_thread(heard, data, most_s)
    told = await asyncio.to_thread(told_credentials, data)
    return Checked(await finder.find(samples), told)


def heard(data: bytes, most_s: float) -> Int16Array:
    """The beginning of a file, (n,) at 24 kHz. Blocks."""
    limits = ClipLimits(
        min_duration_s=LEAST_S,
        max_duration_s=most_s,
        max_bytes=len(data),
        silence_peak=-1.0,
        cuts_long=True,
    )
    clip = decode_clip(data, limits)
    changed = StreamResampler(clip.sample_rate_hz, OUTPUT_SAMPLE_RATE_HZ)
    return to_pcm16(np.concatenate((changed.process(clip.samples), changed.finish())))


def told_credentials(data: bytes) -> dict[str, Any] | None:
    """The result of type c2pa; None where none are read here. Blocks.

    Detected are those that hold and say that a model made the audio.
    """
    media_type = _holder(data)
    if media_type is None or not has_reader():
        return None
    said = credentials(io.BytesIO(data), media_type)
    result: dict[str, Any] = {
        "type": "c2pa",
        "outcome": _DETECTED[False],
        "validation_state": "not_present",
        "issuer": None,
        "generated_at": None,
        "model": None,
    }
    if said is None:
        return result
    state = str(said.get("validation_state", "Invalid")).lower()
    manifest = said.get("manifests", {}).get(said.get("active_manifest"), {})
    signature = manifest.get("signature_info", {})
    is_made = SYNTHETIC in str(manifest.get("assertions", ""))
    return result | {
        "outcome": _DETECTED[is_made and state in {"valid", "trusted"}],
        "validation_state": state,
        "issuer": signature.get("issuer"),
        "generated_at": signature.get("time"),
    }


def _holder(data: bytes) -> str | None:
    """How C2PA's reader calls a file that may hold credentials."""
    container = sniff(data).container
    if container is None:
        is_adts = int.from_bytes(data[:2]) & _ADTS_MASK == _ADTS
        return None if is_adts else "audio/mpeg"
    return _HOLDERS.get(container)
