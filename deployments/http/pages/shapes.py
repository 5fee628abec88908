"""The shapes of JSON replies, as the API's pages describe them and tests hold the replies to them.

Handlers build plain dictionaries: nothing is validated on the way out.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from deployments.http.pages.segment_shapes import Segments
from pipeline.contracts import Verdict

Counts = dict[str, float]


class Problem(BaseModel):
    """What went wrong. param: the caller's field. code: a stable word.

    predicted_wait_s: seconds until the service could begin, where it is full and knows.
    """

    message: str
    type: Literal["invalid_request_error", "server_error", "insufficient_quota"]
    param: str | None
    code: str
    predicted_wait_s: float = 0.0


class ErrorReply(BaseModel):
    """Every refusal and failure, in OpenAI's shape."""

    error: Problem


class Verdicts(BaseModel):
    """What the guard found in an answer."""

    verdict: Verdict
    is_retried: bool


class Tokens(BaseModel):
    """As OpenAI counts them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class SpeechOutcome(BaseModel):
    """How a request to speak ended. timbre: seconds by stage, and what answered.

    segments: of a text that was spoken in segments.
    """

    object: Literal["audio.speech"]
    request_id: str
    outcome: Literal["ok", "error", "refused", "cancelled"]
    finish_reason: Literal["stop", "error", "cancelled"]
    error: Problem | None
    quality: Verdicts
    usage: Tokens
    timbre: dict[str, float | str]
    response_format: str
    sample_rate: int
    created_at: int
    segments: Segments | None = None


class SpeechDelta(BaseModel):
    """Audio, in base64."""

    type: Literal["speech.audio.delta"]
    audio: str
    response_format: str


class SpeechDone(BaseModel):
    """The last event of a reply. timbre: seconds by stage, what answered, the guard's verdict."""

    type: Literal["speech.audio.done"]
    usage: Tokens
    timbre: dict[str, float | str]
    segments: Segments | None = None


class BrokenOff(Problem):
    """What ended a reply after its first audio."""

    partial_audio: Literal[True]


class SpeechFailed(BaseModel):
    """The last event of a reply that broke off."""

    type: Literal["speech.audio.error"]
    error: BrokenOff
    segments: Segments | None = None


class ModelReply(BaseModel):
    """One name of the model. model_variants: language models that a request may choose from."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    model_variants: list[str]


class ModelList(BaseModel):
    """Every name."""

    object: Literal["list"]
    data: list[ModelReply]


class ElevenLabsModel(BaseModel):
    """One name, for ElevenLabs' clients."""

    model_id: str
    name: str
    can_do_text_to_speech: bool
    can_do_voice_conversion: bool
    can_be_finetuned: bool
    can_use_style: bool
    can_use_speaker_boost: bool
    languages: list[dict[str, str]]


class NamedVoice(BaseModel):
    """A voice that a request may name."""

    id: str
    name: str
    language: str | None
    object: Literal["voice"]


class ListedVoice(NamedVoice):
    """The same with what ElevenLabs' clients read."""

    voice_id: str
    category: Literal["premade", "cloned"]
    labels: dict[str, str]
    description: str | None
    preview_url: str | None
    samples: list[Any] | None
    settings: dict[str, Any] | None
    available_for_tiers: list[str]
    high_quality_base_model_ids: list[str]


class VoiceList(BaseModel):
    """Every voice. voices: names alone where `legacy` asked so."""

    voices: list[ListedVoice | str]
    data: list[ListedVoice]
    object: Literal["list"]


class VoicePage(BaseModel):
    """ElevenLabs' search."""

    voices: list[ListedVoice]
    has_more: bool
    total_count: int
    next_page_token: str | None


class Done(BaseModel):
    """It lives, or it is done."""

    status: Literal["ok"]


class CacheCounts(BaseModel):
    """A cache's counters since the start, and its sizes now. requests: by kind, tier, result."""

    requests: dict[str, dict[str, dict[str, int]]]
    computes: int
    compute_failures: int
    refused_records: int
    joined: int
    waited: int
    saved_s: float
    in_flight: int
    l1: Counts
    alias: Counts
    tiers: dict[str, Counts]
    index: list[dict[str, Any]]
    set_aside: dict[str, str]


class SpeechCounts(CacheCounts):
    """The same of finished speech. listened_in: requests that another one's speech answered."""

    enabled: Literal[True]
    listened_in: int


class NoSpeechCounts(BaseModel):
    """Where finished speech is not kept."""

    enabled: Literal[False]


class CacheState(CacheCounts):
    """This router's caches."""

    speech: SpeechCounts | NoSpeechCounts


class Warmed(BaseModel):
    """A clip that is encoded. clip: what it is removed by."""

    clip: str
    tier: str
    is_durable: bool
    duration_s: float
    warnings: list[str]


class Forgotten(BaseModel):
    """A clip whose records are gone."""

    clip: str
    deleted: Literal[True]


class Finding(BaseModel):
    """One thing that is wrong with a clip, and what to do about it. code: a stable word."""

    code: str
    message: str
    advice: str


class Cut(BaseModel):
    """The part of a clip that is worth keeping, seconds."""

    start_s: float
    stop_s: float


class ClipQuality(BaseModel):
    """The report on a clip as it was uploaded."""

    duration_s: float
    sample_rate_hz: int
    speech_share: float
    snr_db: float
    clipped_share: float
    loudness_lufs: float
    peak_dbfs: float
    several_speakers: bool
    suggested_trim: Cut | None
    findings: list[Finding]


class VoiceFacts(BaseModel):
    """What every dialect tells of a version of an uploaded voice."""

    version: int
    language: str | None
    consent: str | None
    transcript_source: Literal["given", "asr"] | None
    quality: ClipQuality


class UploadedVoice(VoiceFacts):
    """An uploaded voice as OpenAI's clients read it."""

    id: str
    object: Literal["audio.voice"]
    created_at: int
    name: str
    type: Literal["audio_sample"]
    speaker_description: str | None
    ref_text: str | None


class VersionReply(VoiceFacts):
    """One of a voice's versions."""

    created_at: int
    file_size: int
    mime_type: str
    ref_text: str | None


class VersionedVoice(UploadedVoice):
    """The same with its versions, from the first."""

    versions: list[VersionReply]


class OmniVoice(VoiceFacts):
    """An uploaded voice as vLLM-Omni's clients read it."""

    name: str
    created_at: int
    file_size: int
    mime_type: str
    embedding_source: Literal["audio"]
    embedding_dim: int
    id: str
    ref_text: str = ""
    speaker_description: str = ""


class AudioVoiceList(BaseModel):
    """Every voice. voices: names alone where `legacy` asked so."""

    object: Literal["list"]
    voices: list[NamedVoice | str]
    uploaded_voices: list[OmniVoice]
    data: list[NamedVoice]


class DeletedVoices(BaseModel):
    """Those that can be restored."""

    object: Literal["list"]
    data: list[UploadedVoice]


class OmniUpload(BaseModel):
    """A voice that was kept, for vLLM-Omni's clients."""

    success: Literal[True]
    voice: OmniVoice


class DeletedVoice(BaseModel):
    """A voice that is gone, for OpenAI's clients."""

    id: str
    object: Literal["audio.voice.deleted"]
    deleted: Literal[True]


class OmniDeletion(BaseModel):
    """The same for vLLM-Omni's."""

    success: Literal[True]
    message: str
    id: str


class ElevenLabsUpload(BaseModel):
    """A voice that was kept, for ElevenLabs' clients."""

    voice_id: str
    requires_verification: Literal[False]


class ConsentReply(BaseModel):
    """A consent."""

    id: str
    object: Literal["audio.voice_consent"]
    created_at: int
    language: str
    name: str
    who: str
    given_at: int
    text: str | None
    has_recording: bool


class ConsentPage(BaseModel):
    """Some consents, the newest first."""

    object: Literal["list"]
    data: list[ConsentReply]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedConsent(BaseModel):
    """A consent that is gone."""

    id: str
    object: Literal["audio.voice_consent"]
    deleted: Literal[True]
