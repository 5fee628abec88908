"""What every dialect turns a body into: a wish in no dialect's words, then a checked request."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from deployments.config.settings import Limits, Reuse
from deployments.http.bodies.clip_text import clip_bytes, web_address
from deployments.http.bodies.read import Clip
from deployments.jobs.dialogue import Turn
from deployments.pronunciation.readings import NOTHING_ASKED, AskedReading
from pipeline.audio.encode import check_rate
from pipeline.contracts import (
    BASE_VARIANT,
    NO_LIMIT_TOKENS,
    Mode,
    Sampling,
    SpeechRequest,
    VoiceReference,
)
from pipeline.edit_values import EDIT_VALUES, SAME_WORDS
from pipeline.errors import MAX_FOUND, InputError, TextError, UnsupportedError

_BETWEEN_WORDS = re.compile(r"[\s_-]+")


@dataclass(frozen=True, slots=True)
class Draw:
    """How audio tokens are to be drawn. None: any seed; the checkpoint's own; no limit."""

    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            seed=secrets.randbits(63) if self.seed is None else self.seed,
            max_tokens=NO_LIMIT_TOKENS if self.max_tokens is None else self.max_tokens,
            top_p=self.top_p,
            top_k=self.top_k,
        )


@dataclass(frozen=True, slots=True)
class Sound:
    """The reply's format. None: the format's own rate; the codec's own bit rate (bits a second)."""

    name: str
    sample_rate_hz: int | None = None
    bit_rate: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What a body asks for.

    text: None where it was left out. target_lufs: loudness of the reply; None as it is made. voice:
    None for the default. clips: what the fields that may hold a clip say, by field: base64, a data:
    URI or bytes. transcript: None where it was left out. beside: by the field of a clip, where its
    transcript belongs. edit: the value of an edit in the caller's spelling. first_rows: of the
    first audio; None as configured. is_sse: as events. is_whole: not streamed. echo: headers of the
    reply that the caller asked for. ignored: fields that are taken and have no effect, told in a
    header. reuse: of finished speech; None leaves it to the service. reading: how the text is read.
    mark: whether audio is marked; None leaves it to the service. The `_param`s: what refusals name.
    """

    text: str | None
    sound: Sound
    voice: str | None = None
    clips: Mapping[str, str | bytes] = field(default_factory=dict[str, str | bytes])
    transcript: str | None = None
    beside: Mapping[str, str] = field(default_factory=dict[str, str])
    mode: Mode = Mode.CLONE
    edit: str = ""
    iterations: int = 1
    variant: str = BASE_VARIANT
    draw: Draw = Draw()
    speed: float = 1.0
    first_rows: int | None = None
    is_sse: bool = False
    is_whole: bool = False
    echo: Mapping[str, str] = field(default_factory=dict[str, str])
    ignored: Sequence[str] = ()
    reuse: Reuse | None = None
    reading: AskedReading = NOTHING_ASKED
    target_lufs: float | None = None
    mark: bool | None = None
    text_param: str = "input"
    voice_param: str = "voice"
    clip_param: str = "step_audio.prompt_audio_base64"
    transcript_param: str = "prompt_text"
    rate_param: str = "sample_rate"


@dataclass(frozen=True, slots=True, eq=False)
class ParsedRequest:
    """A body made unambiguous.

    upload: the reference clip's bytes, or None when `voice` names a listed one. clip_url: where
    they are yet to be fetched from; there are none so far. clip_param: the field that the clip came
    in, or would have. request: what is to be spoken, with the transcript
    as far as the caller gave it. voice_param: the field that names the voice. transcript_param: the
    field that would have told the transcript. turns: of a dialogue, whose first one's the request
    is. The rest is as in Wish and Sound.
    """

    upload: bytes | None
    clip_param: str
    voice: str | None
    request: SpeechRequest
    response_format: str
    is_sse: bool
    echo: Mapping[str, str] = field(default_factory=dict[str, str])
    sample_rate_hz: int | None = None
    bit_rate: int | None = None
    is_whole: bool = False
    ignored: Sequence[str] = ()
    voice_param: str = "voice"
    transcript_param: str = "prompt_text"
    reuse: Reuse | None = None
    reading: AskedReading = NOTHING_ASKED
    target_lufs: float | None = None
    mark: bool | None = None
    turns: Sequence[Turn] = ()
    clip_url: str | None = None

    @property
    def reference(self) -> VoiceReference:
        """The voice that is meant."""
        return VoiceReference(self.upload, self.voice)

    def without_upload(self) -> ParsedRequest:
        """The request as it lives on once its clip is in other hands."""
        return replace(self, upload=None)


def checked_request(
    wish: Wish,
    limits: Limits,
    upload: Clip | None = None,
    *,
    hears: bool = False,
    fetches: bool = False,
) -> ParsedRequest:
    """Check a wish against the limits, and itself.

    upload: a clip that came as a file, and the name of its part. hears: a clip may come without
    its transcript, for a recogniser is deployed. fetches: an address may stand for a clip.
    Raises InputError naming the field, what was found and what is allowed.
    """
    transcript = (wish.transcript or "").strip()
    text = (wish.text or "").strip()
    if wish.mode is Mode.CLONE:
        is_held = wish.is_whole and not wish.is_sse
        check_spoken_length(wish.text_param, len(text), limits, is_held=is_held)
    else:
        _check_length(wish.text_param, len(text), limits.max_text_chars)
    _check_length(wish.transcript_param, len(transcript), limits.max_transcript_chars)
    info = _edit_value(wish)
    if wish.mode in SAME_WORDS:
        text = transcript  # of a listed voice, whose words are known, it comes with the clip
    elif wish.text is None:
        raise InputError(f"{wish.text_param} is required: the text to speak", param=wish.text_param)
    elif not text:
        raise TextError("the text to speak is empty", param=wish.text_param)
    sound = wish.sound
    check_rate(sound.name, sound.sample_rate_hz, wish.rate_param)
    clip, clip_param = _clip_of(wish, transcript, upload, fetches=fetches)
    _check_clip(wish, clip, clip_param)
    transcript_param = wish.transcript_param
    if clip is not None:
        transcript_param = _words_param(wish, clip_param)
        if not (transcript or hears):
            raise _no_words(transcript_param)
    request = SpeechRequest(
        text=text,
        transcript=transcript,
        mode=wish.mode,
        info=info,
        sampling=wish.draw.sampling,
        speed=wish.speed,
        may_reseed=wish.draw.seed is None,
        first_chunk_rows=wish.first_rows or None,
        is_adaptive=wish.draw.seed is None and wish.first_rows is None,
        variant=wish.variant,
        iterations=wish.iterations,
    )
    return ParsedRequest(
        upload=clip,
        clip_param=clip_param,
        voice=wish.voice,
        request=request,
        response_format=sound.name,
        is_sse=wish.is_sse,
        echo=wish.echo,
        sample_rate_hz=sound.sample_rate_hz,
        bit_rate=sound.bit_rate,
        is_whole=wish.is_whole,
        ignored=wish.ignored,
        voice_param=wish.voice_param,
        transcript_param=transcript_param,
        reuse=wish.reuse,
        reading=wish.reading,
        target_lufs=wish.target_lufs,
        clip_url=_url_of(wish, clip_param) if clip == b"" else None,
        mark=wish.mark,
    )


def check_spoken_length(param: str, n_chars: int, limits: Limits, *, is_held: bool) -> None:
    """Whether so many characters may be spoken in one reply. is_held: it is sent whole.

    Raises TextError; InputError for a text that is only too long to be held.
    """
    longest, held = _longest_chars(limits), longest_held_chars(limits)
    if is_held and n_chars > held:
        raise InputError(
            f"{param} has {n_chars} characters, {held} are allowed in a reply that is sent whole "
            f"(limits.max_whole_text_chars), {longest} in one that is streamed",
            param=param,
        )
    _check_length(param, n_chars, longest)


def longest_held_chars(limits: Limits) -> int:
    """Most characters of a reply that is sent whole."""
    return max(limits.max_text_chars, min(limits.max_whole_text_chars, _longest_chars(limits)))


def value_among(allowed: Sequence[str], asked: str) -> str | None:
    """The value of an edit that is meant, "" where there is none to choose; None for others."""
    found = _BETWEEN_WORDS.sub(" ", asked.strip().lower())
    return next((one for one in allowed or ("",) if _BETWEEN_WORDS.sub(" ", one) == found), None)


def _edit_value(wish: Wish) -> str:
    """The edit's value in the model's own spelling.

    Raises UnsupportedError with the values allowed.
    """
    allowed = EDIT_VALUES[wish.mode]
    if (value := value_among(allowed, wish.edit)) is not None:
        return value
    values = f"allowed: {', '.join(allowed)}" if allowed else "leave it out"
    hints = {
        Mode.CLONE: "; name an edit in step_audio.mode",
        Mode.SPEED: "; for an exact factor send speed, 0.25 to 4",
        Mode.PARALINGUISTIC: "; write tags such as [Laughter] into input (/v1/tags lists them)",
    }
    raise UnsupportedError(
        f"step_audio.edit_info: mode {wish.mode.value} has no value "
        f"{wish.edit[:MAX_FOUND]!r}, {values}{hints.get(wish.mode, '')}",
        param="step_audio.edit_info",
    )


def _clip_of(
    wish: Wish, transcript: str, upload: Clip | None, *, fetches: bool
) -> tuple[bytes | None, str]:
    """The clip and the field it came in. An empty one counts where its transcript was sent.

    One that is yet to be fetched is empty so far.
    """
    filled = {name: clip for name, clip in wish.clips.items() if clip and not clip.isspace()}
    found = [upload[1], *filled] if upload else list(filled)
    if len(found) > 1:
        raise InputError(
            f"one reference clip is allowed, found {' and '.join(found)}", param=found[1]
        )
    if upload:
        return upload
    for name, clip in filled.items():
        if fetches and _url_of(wish, name) is not None:
            return b"", name
        return clip if isinstance(clip, bytes) else clip_bytes(clip, name), name
    if wish.clips and transcript:
        return b"", next(iter(wish.clips))
    return None, wish.clip_param


def _url_of(wish: Wish, clip_param: str) -> str | None:
    """What a field says, if that is where its clip is."""
    clip = wish.clips.get(clip_param)
    return web_address(clip) if isinstance(clip, str) else None


def _check_clip(wish: Wish, clip: bytes | None, clip_param: str) -> None:
    if clip is None and wish.mode is not Mode.CLONE and wish.voice is None:
        raise InputError(
            f"mode {wish.mode.value!r} edits a clip: give one in step_audio.input_audio_base64 or "
            "as a file part to /v1/audio/speech/upload, or name a listed voice in voice",
            param=clip_param,
        )


def _words_param(wish: Wish, clip_param: str) -> str:
    """The field where the transcript of a clip belongs."""
    is_edit = wish.mode is not Mode.CLONE
    usual = "step_audio.audio_text" if is_edit else "step_audio.prompt_text"
    return wish.beside.get(clip_param, usual)


def _no_words(param: str) -> InputError:
    also = " or ref_text" if param == "step_audio.prompt_text" else ""
    return InputError(
        f"a reference clip needs its transcript: say what is spoken in it in {param}{also}",
        param=param,
    )


def _longest_chars(limits: Limits) -> int:
    return max(limits.max_text_chars, limits.max_long_text_chars)


def _check_length(param: str, n_chars: int, limit: int) -> None:
    if n_chars > limit:
        raise TextError(f"{param} has {n_chars} characters, {limit} are allowed", param=param)
