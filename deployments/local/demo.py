"""The demo that a new user runs first: a voice cloned over HTTP twice, a miss and a hit."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pipeline.audio.encode import encode_file
from pipeline.contracts import Float32Array
from pipeline.errors import SetupError
from pipeline.voice_list import VOICES_DIR, load_voices

# Chosen by intelligibility (Whisper base, hama) among sentences, voices, seeds and temperatures.
TEXT = "Hello there. You only need to hear a voice once to speak with it again."
SEED = 1
TEMPERATURE = 0.3
TIMEOUT_S = 180.0
PCM_SCALE = 32768.0


@dataclass(frozen=True, slots=True, eq=False)
class DemoTake:
    """One spoken text."""

    samples: Float32Array
    """float32, 24 kHz."""
    line: str
    """The stage times as the service reports them."""


def speak_once(url: str, voice: str) -> DemoTake:
    """Send the listed voice's clip as a caller's own upload, and collect audio and stage times."""
    listed = load_voices(VOICES_DIR)[voice]
    audio_base64 = base64.b64encode(listed.path.read_bytes()).decode()
    body = {
        "input": TEXT,
        "response_format": "pcm",
        "stream_format": "sse",
        "seed": SEED,
        "temperature": TEMPERATURE,
        "step_audio": {"prompt_audio_base64": audio_base64, "prompt_text": listed.transcript},
    }
    pcm = bytearray()
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        with client.stream("POST", f"{url}/v1/audio/speech", json=body) as reply:
            if reply.status_code != httpx.codes.OK:
                raise SetupError(
                    f"the service answered {reply.status_code}: {reply.read().decode()}"
                )
            for line in reply.iter_lines():
                event = _event_of(line)
                if event.get("type") == "speech.audio.delta":
                    pcm += base64.b64decode(event["audio"])
                if event.get("type") == "speech.audio.done":
                    samples = np.frombuffer(bytes(pcm), "<i2").astype(np.float32) / PCM_SCALE
                    return DemoTake(samples, event["timbre"]["line"])
    raise SetupError("the stream ended early; the service's log has the cause")


def write_wav(take: DemoTake, path: Path) -> None:
    """Write the take as a wav file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_file(take.samples, path)


def _event_of(line: str) -> dict[str, Any]:
    return json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
