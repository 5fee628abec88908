"""Voice prompts as the cache's records, and back; the schema that holds them."""

from __future__ import annotations

import numpy as np

from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.errors import RecordError
from pipeline.contracts import VOICE_PROMPT_SCHEMA, VoicePrompt

LENGTH_SLACK = 0.25  # of code counts against the duration; trimming reduces them


def _check(record: Record) -> None:
    """Check that the encoder is named, and that the streams of one clip cover the same time:

    2 vq02 to 3 vq06, mel at 50 Hz of the untrimmed clip.
    """
    if "fingerprint" not in record.metadata:
        raise RecordError("the metadata lacks fingerprint")
    arrays = record.arrays
    vq02_s, vq06_s = len(arrays["vq02"]) * 0.06, len(arrays["vq06"]) * 0.04
    mel_s, duration_s = len(arrays["prompt_mel"]) * 0.02, float(arrays["duration_s"][0])
    if abs(vq02_s - vq06_s) > LENGTH_SLACK or abs(mel_s - duration_s) > LENGTH_SLACK:
        raise RecordError(
            f"lengths contradict: vq02 {vq02_s:.2f} s, vq06 {vq06_s:.2f} s, "
            f"mel {mel_s:.2f} s, clip {duration_s:.2f} s"
        )


VOICE_SCHEMA = RecordSchema(
    "voice",
    VOICE_PROMPT_SCHEMA,
    (
        FieldSpec("vq02", "int16", (None,), minimum=0, maximum=1023, min_rows=2),
        FieldSpec("vq06", "int16", (None,), minimum=0, maximum=4095, min_rows=3),
        FieldSpec("prompt_mel", "float32", (None, 80), min_rows=1),
        FieldSpec("speaker_embedding", "float32", (192,)),
        FieldSpec("duration_s", "float64", (1,), minimum=0.0),
    ),
    check=_check,
)


def to_record(prompt: VoicePrompt) -> Record:
    """A voice prompt as the cache stores it."""
    arrays = {
        "vq02": prompt.vq02,
        "vq06": prompt.vq06,
        "prompt_mel": prompt.prompt_mel,
        "speaker_embedding": prompt.speaker_embedding,
        "duration_s": np.array([prompt.duration_s], np.float64),
    }
    return Record(arrays, {"fingerprint": prompt.fingerprint})


def to_prompt(record: Record, clip_digest: str) -> VoicePrompt:
    """The inverse of `to_record`, of this clip; arrays stay the record's read-only views."""
    arrays = record.arrays
    return VoicePrompt(
        vq02=arrays["vq02"],
        vq06=arrays["vq06"],
        prompt_mel=arrays["prompt_mel"],
        speaker_embedding=arrays["speaker_embedding"],
        duration_s=float(arrays["duration_s"][0]),
        fingerprint=record.metadata["fingerprint"],
        clip_digest=clip_digest,
    )
