"""A call in the words of a dialect: an HTTP request, or the messages of a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from load_tests.load.material.clips import Clip, clip_of
from load_tests.load.plan import Call
from load_tests.load.workload import Dialect

BYTES_S = {"pcm": 48_000, "pcmu": 8_000}  # of a second of audio
ELEVENLABS_FORMATS = {"pcm": "pcm_24000", "pcmu": "ulaw_8000"}
SESSION_PATH = "/v1/audio/speech/stream"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is sent."""

    path: str
    body: bytes = b""
    """JSON; empty of a session."""
    messages: tuple[str, ...] = ()
    """Of a session, in their order; empty over HTTP."""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def ask_of(call: Call, nonce: int) -> Ask:
    """nonce: of the clips of this run, so that none is known from another."""
    clip = None if call.clip is None else clip_of(call.clip, nonce)
    return _WORDS[call.dialect](call, clip)


def _openai(call: Call, clip: Clip | None) -> Ask:
    """With a clip in vLLM-Omni's words, which OpenAI's have none for."""
    return _posted("/v1/audio/speech", _omni_fields(call, clip) | {"input": call.text})


def _predecessor(call: Call, clip: Clip | None) -> Ask:
    fields: dict[str, Any] = {"input": call.text, "response_format": call.format}
    if clip is None:
        fields |= {"voice": call.voice, "step_audio": {"mode": "clone"}}
    else:
        said = {"prompt_text": clip.words, "prompt_audio_base64": clip.base64}
        fields["step_audio"] = {"mode": "clone", **said}
    return _posted("/v1/audio/speech", fields | _seed(call))


def _elevenlabs(call: Call, clip: Clip | None) -> Ask:
    assert clip is None, "ElevenLabs' callers name voices"
    path = f"/v1/text-to-speech/{call.voice}/stream"
    return _posted(
        f"{path}?output_format={ELEVENLABS_FORMATS[call.format]}",
        {"text": call.text, "model_id": "eleven_flash_v2_5", **_seed(call)},
    )


def _fish(call: Call, clip: Clip | None) -> Ask:
    fields: dict[str, Any] = {"text": call.text, "format": call.format, "streaming": True}
    if clip is None:
        fields["reference_id"] = call.voice
    else:
        fields["references"] = [{"audio": clip.base64, "text": clip.words}]
    return _posted("/v1/tts", fields | _seed(call))


def _websocket(call: Call, clip: Clip | None) -> Ask:
    said = (
        {"type": "session.config", "split_granularity": "sentence", **_omni_fields(call, clip)},
        {"type": "input.text", "text": call.text},
        {"type": "input.done"},
    )
    return Ask(SESSION_PATH, messages=tuple(json.dumps(one) for one in said))


def _omni_fields(call: Call, clip: Clip | None) -> dict[str, Any]:
    voice = {"voice": call.voice} if clip is None else _reference(clip)
    return {"response_format": call.format, **voice, **_seed(call)}


def _reference(clip: Clip) -> dict[str, str]:
    return {"ref_audio": f"data:audio/wav;base64,{clip.base64}", "ref_text": clip.words}


def _seed(call: Call) -> dict[str, int]:
    return {} if call.seed is None else {"seed": call.seed}


def _posted(path: str, fields: Mapping[str, Any]) -> Ask:
    return Ask(path, json.dumps(fields).encode())


_WORDS: Mapping[Dialect, Callable[[Call, Clip | None], Ask]] = {
    "openai": _openai,
    "predecessor": _predecessor,
    "elevenlabs": _elevenlabs,
    "fish": _fish,
    "websocket": _websocket,
}
