"""What clients of a session say: JSON messages, vLLM-Omni's and ours, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictStr

from deployments.config.session_settings import SessionSettings
from deployments.config.settings import Limits
from deployments.http.bodies.fields import NAME, Lenient, refused, validated
from deployments.http.bodies.json_text import read_json
from deployments.http.dialects.omni import OmniFields, read_omni
from deployments.http.dialects.openai import AudioFormat, OpenAIFields, read_openai
from deployments.http.dialects.parsed_request import ParsedRequest, Wish, checked_request
from deployments.http.dialects.reading_fields import ReadingFields, asked_reading
from pipeline.errors import MAX_FOUND, InputError, TooLargeError
from pipeline.splitting.committed import Granularity

CONFIG = "session.config"
AT_ONCE_BYTES = 2**16  # larger messages are read on a thread
TRIAL_TEXT = "a"  # stands for the text when a config is checked

_SPOKEN_ELSEWHERE = "send text with input.text, when the session has its config"
_FRAMED = "audio comes in frames; stream_audio and audio_transport say how"


class SessionConfig(OmniFields, ReadingFields, OpenAIFields):
    """`session.config`: fields of a speech request that count for all text until the next."""

    model_config = ConfigDict(populate_by_name=True)
    keeps_empty = OmniFields.keeps_empty

    input: Annotated[str | None, refused(_SPOKEN_ELSEWHERE, is_switch=False)] = None
    step_audio: Annotated[None, refused("POST /v1/audio/edits edits clips")] = None
    stream_format: Annotated[Literal["audio", "sse"] | None, refused(_FRAMED, "audio")] = None
    response_format: Annotated[AudioFormat, NAME] = "wav"
    stream_audio: bool | None = None
    split_granularity: Annotated[Granularity, NAME] = "none"
    audio_transport: Annotated[Literal["binary", "base64"], NAME] = "binary"

    @property
    def is_whole(self) -> bool:
        """A sentence's audio comes in one frame; unasked, where pieces would make no file."""
        return self.response_format == "wav" if self.stream_audio is None else not self.stream_audio


class InputText(Lenient):
    """`input.text`: a piece of text, cut anywhere."""

    keeps_empty = frozenset({"text"})

    text: StrictStr


class InputDone(Lenient):
    """`input.done`: the utterance has no more text."""


class InputCancel(Lenient):
    """`input.cancel`: stop speaking; all text that was sent is dropped."""

    played_ms: Annotated[float, Field(ge=0, le=1e9)] | None = None
    utterance_index: Annotated[int, Field(ge=0)] | None = None


class SessionClose(Lenient):
    """`session.close`: end the session."""


class Ping(Lenient):
    """`ping`: is answered with `pong`, and its id."""

    id: str | int | float | None = None


Said = SessionConfig | InputText | InputDone | InputCancel | SessionClose | Ping
KINDS: dict[str, type[Said]] = {
    CONFIG: SessionConfig,
    "input.text": InputText,
    "input.done": InputDone,
    "input.cancel": InputCancel,
    "session.close": SessionClose,
    "ping": Ping,
}


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A checked config. wish: what every request of the session asks for, text aside.

    hears: see checked_request.
    """

    config: SessionConfig
    wish: Wish
    limits: Limits
    hears: bool = False

    def request(self, text: str) -> ParsedRequest:
        """To speak `text`. Raises InputError."""
        return checked_request(replace(self.wish, text=text), self.limits, hears=self.hears)


def read_message(raw: str | bytes | None, limits: SessionSettings) -> Said:
    """One message, by any thread. Raises InputError."""
    if not isinstance(raw, str):
        raise InputError(
            "a binary message came; messages are JSON objects, as text", param="message"
        )
    content = raw.encode(errors="surrogatepass")
    if len(content) > max(limits.max_config_bytes, limits.max_message_bytes):
        raise _too_large("the message", len(content), limits.max_config_bytes)
    tree = read_json(content, name="message")
    if not isinstance(tree, dict):
        raise InputError("a message must be a JSON object with a type", param="message")
    kind = tree.pop("type", None)
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        found = "none" if kind is None else repr(kind)[:MAX_FOUND]
        raise InputError(
            f"type: unknown type of message, found {found}; allowed: {', '.join(KINDS)}",
            param="type",
        )
    most_bytes = limits.max_config_bytes if model is SessionConfig else limits.max_message_bytes
    if len(content) > most_bytes:
        raise _too_large(str(kind), len(content), most_bytes)
    return validated(model, tree, ())


def read_config(
    config: SessionConfig,
    limits: Limits,
    check_model: Callable[[str], None],
    *,
    hears: bool = False,
) -> Setup:
    """A config checked as a speech request is, its clip decoded. Raises InputError."""
    if config.model is not None:
        check_model(config.model)
    wish = read_omni(config, read_openai(config))
    wish = replace(
        wish,
        is_sse=False,
        is_whole=config.is_whole,
        reading=asked_reading(config),
        text_param="text",
    )
    parsed = checked_request(replace(wish, text=TRIAL_TEXT), limits, hears=hears)
    if parsed.upload is not None:
        wish = replace(wish, clips={parsed.clip_param: parsed.upload})
    # The text of the clip, as base64, is not wanted any more.
    slim = config.model_copy(update={"ref_audio": None, "references": None})
    return Setup(slim, wish, limits, hears)


def _too_large(what: str, n_bytes: int, most_bytes: int) -> TooLargeError:
    return TooLargeError(f"{what} has {n_bytes} bytes, {most_bytes} are allowed", param="message")
