"""Makes docs/audio/ anew, with a running service: `python -m tests.documents.audio URL`.

The same service and seeds make the same clips again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import httpx

from pipeline.audio.decode import decode_clip
from pipeline.audio.encode import encode_file
from pipeline.voice_list import load_voices
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "audio"
SEED = 7
TIMEOUT_S = 120.0
SPEECH, EDITS = "/v1/audio/speech", "/v1/audio/edits"
FORGOT = "So you forgot. Never mind."
HELLO = "Hello there. You only need to hear a voice once to speak with it again."
SPOKEN: Mapping[str, dict[str, Any]] = {
    "clone.mp3": {"input": HELLO, "voice": "bruno"},
    "rain.mp3": {"input": "It is raining again.", "voice": "aria"},
    "heard_once.mp3": {"input": "You heard me once.", "voice": "bruno"},
    "dialogue.mp3": {
        "inputs": [
            {"text": "Good evening. Is the library still open?", "voice": "aria"},
            {"text": "Yes, it is open until eight.", "voice": "bruno"},
        ]
    },
    "slow.mp3": {"input": FORGOT, "voice": "bruno", "speed": 0.75},
    "pause.mp3": {"input": "So you forgot. [pause:800ms] Never mind.", "voice": "bruno"},
}
CHAIN: Mapping[str, dict[str, Any]] = {
    "edit_1_clone.mp3": {"type": "clone", "text": FORGOT},
    "edit_2_happy.mp3": {"type": "emotion", "value": "happy"},
    "edit_3_denoise.mp3": {"type": "denoise"},
}


def main(url: str) -> None:
    """Raises httpx.HTTPStatusError for what the service refuses."""
    FOLDER.mkdir(exist_ok=True)
    _write_clip("bruno")
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as service:
        for name, body in SPOKEN.items():
            _keep(name, service.post(SPEECH, json={"seed": SEED, **body}))
        chain = service.post(
            EDITS, json={"voice": "bruno", "seed": SEED, "steps": [*CHAIN.values()]}
        )
        edit = chain.raise_for_status().headers["X-Edit-Id"]
        for number, name in enumerate(CHAIN, 1):
            _keep(name, service.get(f"{EDITS}/{edit}/steps/{number}/audio"))


def _write_clip(voice: str) -> None:
    """A built-in clip, as browsers play it."""
    clip = decode_clip(load_voices()[voice].path.read_bytes())
    encode_file(clip.samples, FOLDER / f"{voice}.mp3", sample_rate_hz=clip.sample_rate_hz)


def _keep(name: str, reply: httpx.Response) -> None:
    (FOLDER / name).write_bytes(reply.raise_for_status().content)


if __name__ == "__main__":
    main(*sys.argv[1:])
