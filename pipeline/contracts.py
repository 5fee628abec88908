"""The records between the stages, and the stages' Protocols.

Records are frozen and slotted, hold arrays (never lists), and cross process borders unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.serving.terms import USUAL, Terms
from pipeline.text.options import AS_USUAL, Reading

OUTPUT_SAMPLE_RATE_HZ = 24_000  # what the vocoder produces, mono
GROUP_VQ02, GROUP_VQ06 = 2, 3  # codes of each kind in a group
GROUP_TOKENS = GROUP_VQ02 + GROUP_VQ06
GROUP_S = 0.12  # seconds of audio a group covers
BASE_VARIANT = "base"  # the language model that speaks unless a request names another
NOT_REUSED = "none"  # speech that LLM and vocoder made for the very request
NO_LIMIT_TOKENS = 2**31 - 1  # more than any answer has
VOICE_PROMPT_SCHEMA = 1  # raise when VoicePrompt's fields change: older records are not read

Int16Array = NDArray[np.int16]
Int32Array = NDArray[np.int32]
Float32Array = NDArray[np.float32]
Item_co = TypeVar("Item_co", covariant=True)


class Mode(StrEnum):
    """What to do with the reference clip: clone it, or edit it."""

    CLONE = "clone"
    EMOTION = "emotion"
    STYLE = "style"
    SPEED = "speed"
    DENOISE = "denoise"
    VAD = "vad"
    PARALINGUISTIC = "paralinguistic"


@dataclass(frozen=True, slots=True, eq=False)
class VoiceReference:
    """Which voice is to speak, as a caller names it."""

    upload: bytes | None = None
    """Bytes of a reference clip."""
    name: str | None = None
    """Name or id of a listed or uploaded voice, None for the default; ignored with an upload."""
    namespace: str | None = None
    """The tenant whose voices are meant, chosen by the server; None for the one without a key."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceClip:
    """A decoded reference clip."""

    samples: Float32Array
    """(n,), mono, full scale is ±1."""
    sample_rate_hz: int
    """Of `samples`, as uploaded; nothing is resampled yet."""
    digest: str
    """Hex digest of the PCM with its rate; names the clip in logs and in the clone prompt."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True, slots=True, eq=False)
class VoicePrompt:
    """Everything that the later stages need of a reference clip."""

    vq02: Int16Array
    """(n,), linguistic codes at 16.67 Hz, 0 ≤ code < 1024."""
    vq06: Int16Array
    """(m,), semantic codes at 25 Hz, 0 ≤ code < 4096."""
    prompt_mel: Float32Array
    """(t, 80), log-mel at 50 Hz of the untrimmed clip."""
    speaker_embedding: Float32Array
    """(192,), not normalised."""
    duration_s: float
    """Length of the clip before trimming."""
    fingerprint: str
    """Hex fingerprint of the encoder (weights, preprocessing version) that made it."""
    clip_digest: str = ""
    """Hex digest of the clip, by which stages find what they keep of a voice; not recorded."""

    @property
    def n_groups(self) -> int:
        """Whole 120 ms groups in the prompt; codes left over at the end are not used."""
        return min(len(self.vq02) // GROUP_VQ02, len(self.vq06) // GROUP_VQ06)


@dataclass(frozen=True, slots=True)
class Warping:
    """Changes to the model's probabilities before a draw; the defaults are the released code's."""

    temperature: float = 0.7
    """0 means greedy."""
    top_p: float = 1.0
    """Nucleus truncation; 1 is off."""
    top_k: int = 50
    """0 is off."""


RELEASED_WARPING = Warping()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the LLM draws audio tokens. Warping fields that are None take the checkpoint's values."""

    temperature: float | None = None
    """See Warping."""
    seed: int = 0
    """Same prompt and seed, same tokens."""
    max_tokens: int = NO_LIMIT_TOKENS
    """Most audio tokens; generation stops at the group that would exceed it."""
    top_p: float | None = None
    """See Warping."""
    top_k: int | None = None
    """See Warping."""
    grammar: bool = True
    """Each position has its codebook, stops are at group borders; off as in the reference."""
    repetition_window: int = 10
    """The last token is banned as the next if it occurs more than once in this many tokens."""

    def warping(self, default: Warping = RELEASED_WARPING) -> Warping:
        """The requested warping, completed from `default`."""
        return Warping(
            temperature=default.temperature if self.temperature is None else self.temperature,
            top_p=default.top_p if self.top_p is None else self.top_p,
            top_k=default.top_k if self.top_k is None else self.top_k,
        )

    def over(self, default: Warping) -> Sampling:
        """The same with no warping field None."""
        return replace(self, **asdict(self.warping(default)))


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A request for speech."""

    text: str
    """What to speak (clone, paralinguistic), or the text of the input audio (other edits)."""
    transcript: str
    """The words spoken in the reference clip."""
    mode: Mode = Mode.CLONE
    """Clone, or one of the edits."""
    info: str = ""
    """The edit's value (for example "happy"), empty for a clone."""
    sampling: Sampling = field(default_factory=Sampling)
    """How tokens are drawn."""
    speed: float = 1.0
    """Playback speed factor, pitch kept; 1.0 is as generated."""
    may_reseed: bool = False
    """The caller gave no seed: a bad answer may be drawn once more with another."""
    first_chunk_rows: int | None = None
    """Token rows (40 ms) of the first piece of audio; None as configured."""
    is_adaptive: bool = False
    """The vocoder may choose `first_chunk_rows` by its load."""
    variant: str = BASE_VARIANT
    """The deployed language model to use."""
    iterations: int = 1
    """How often an edit is applied, each time to the previous tokens; ignored for a clone."""
    reading: Reading = AS_USUAL
    """How the text is to be read."""
    is_behind: bool = False
    """Nobody listens: it goes on only as far as it holds nobody else up."""
    source: Drawn | None = None
    """An earlier answer that is edited in place of the clip, and heard in the clip's voice."""
    terms: Terms = USUAL
    """How it is served; no part of what is spoken."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenChunk:
    """Audio tokens of whole groups."""

    ids: Int32Array
    """(5k,), the audio base removed (0 … 5119); may be empty when last."""
    last: bool
    """No chunk follows."""
    work_s: float = 0.0
    """Seconds that the LLM spent on the answer so far, without waiting for a slot."""
    made_by: str = ""
    """Fingerprint of the LLM, on the last chunk; empty where nobody asks."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """Speech."""

    samples: Float32Array
    """(n,), 24 kHz mono, |x| ≤ 1; may be empty when last."""
    last: bool
    """No chunk follows."""


class Verdict(StrEnum):
    """The fault of an answer, if any, in ascending severity."""

    OK = "ok"
    CLIPPED = "clipped"  # the waveform is cut off at its peaks
    HOLE = "hole"  # the level drops to nothing within a word
    BUZZ = "buzz"  # a steady tone or rasp in place of speech
    SHORT = "short"  # stopped before the text can have been said
    DIVERGENT = "divergent"  # a recogniser hears other words
    LOOP = "loop"
    ENDLESS = "endless"  # ran into its bound without a stop
    LOST = "lost"  # a part of a long text that is not in the reply


_SEVERITY = tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Quality:
    """The verdict on an answer so far, and whether it is a retry.

    Of several answers in a row: the worst verdict, and whether any is a retry.
    """

    verdict: Verdict = Verdict.OK
    is_retried: bool = False

    def merged(self, other: Quality) -> Quality:
        """Of this answer and another."""
        worse = max(self.verdict, other.verdict, key=_SEVERITY.index)
        return Quality(worse, self.is_retried or other.is_retried)

    def __str__(self) -> str:
        return f"{self.verdict}; retried" if self.is_retried else str(self.verdict)


GOOD = Quality()


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Times of a request by stage, as far as known.

    LLM and vocoder report their own times with every chunk, the router all of them. Fields in `_s`
    are seconds, in the order in which they are reported; `tier` belongs to `tokenizer_s`.
    """

    tokenizer_s: float = 0.0
    """Resolving the voice, cache look-up included."""
    tier: str = "none"
    """What answered: a tier of the cache; `miss`: the tokenizer; `none`: nothing yet."""
    llm_s: float = 0.0
    """Seconds that the vocoder waited for tokens."""
    llm_work_s: float = 0.0
    """Seconds that the LLM worked, mostly in parallel with the vocoder."""
    vocoder_s: float = 0.0
    """Decoding tokens into audio."""
    ttfa_s: float = 0.0
    """Request accepted to first audio."""
    total_s: float = 0.0
    """Request accepted to last byte."""
    audio_s: float = 0.0
    """Audio produced."""
    speech: str = NOT_REUSED
    """What answered in place of LLM and vocoder: a tier of speech, or `joined`, another request."""

    @property
    def rtf(self) -> float:
        """Real-time factor: processing seconds per second of audio; lower is better."""
        return self.total_s / self.audio_s if self.audio_s else 0.0

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage that was reached, waiting in it included."""
        seconds = {"tokenizer": self.tokenizer_s} if self.tier != "none" else {}
        if self.audio_s and self.speech == NOT_REUSED:
            seconds |= {"llm": self.llm_s, "vocoder": self.vocoder_s}
        return seconds


NO_TIMES = StageTimes()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompts and audio of spoken answers; what a retry threw away does not count."""

    input_tokens: int = 0
    output_tokens: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What the LLM drew for a whole answer."""

    ids: Int16Array
    """(5k,), audio tokens of all passages, 0 … 5119."""
    made_by: frozenset[str]
    """Fingerprints of the models at work; more than usual when one was replaced meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechChunk:
    """A piece of speech with the account of where time went so far."""

    samples: Float32Array
    """(n,), 24 kHz mono."""
    last: bool
    """No chunk follows."""
    times: StageTimes = NO_TIMES
    """Of LLM and vocoder."""
    quality: Quality = GOOD
    """What the guard thinks of the answer so far."""
    usage: Usage = NO_USAGE
    drawn: Drawn | None = None
    """The answer's tokens, on the last chunk."""


@dataclass(frozen=True, slots=True)
class VocoderName:
    """What a vocoder is, as far as its answers depend on it."""

    fingerprint: str
    """Hex digest of weights and configs, and of what it writes prompts with."""
    front_end: str | None
    """How it reads text, as pipeline.text.front_end knows it."""


class Stream(AsyncIterable[Item_co], Protocol[Item_co]):
    """An async iterator whose reader closes it; like an async generator.

    A stream that ended, with or without an error, holds nothing.
    """

    def __aiter__(self) -> AsyncIterator[Item_co]:
        return self

    def __anext__(self) -> Awaitable[Item_co]:
        """The next item. Raises StopAsyncIteration when there is none."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Free what the stream holds. May be called twice, and before anything was read."""
        ...


class VoiceEncoder(Protocol):
    """Turns a clip into a voice prompt.

    Deterministic: the same clip gives the same prompt, bit for bit.
    """

    @property
    def fingerprint(self) -> str:
        """Hex digest of weights, preprocessing version and configs.

        A change makes every cached prompt unreachable.
        """
        ...

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        """Raises AudioError for a clip that cannot be encoded. Never blocks the event loop."""
        ...


class SpeechLM(Protocol):
    """Draws audio tokens for a prompt."""

    def stream(self, prompt_ids: Int32Array, sampling: Sampling) -> Stream[TokenChunk]:
        """Chunks in order; exactly one has `last` and it is the final one.

        Closing it (`aclose`) or cancelling the task frees the slot at the next step. Raises
        CapacityError when no slot is free in time, StageError when the model fails.
        """
        ...


class WaveDecoder(Protocol):
    """Turns audio tokens into a waveform, chunk by chunk."""

    def stream(
        self,
        tokens: Stream[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> Stream[AudioChunk]:
        """Chunks in order; exactly one has `last` and it is the final one. Closes `tokens`.

        first_chunk_rows: token rows (40 ms) of the first chunk, None for the decoder's own.
        State dies with the iterator.
        """
        ...
