"""The one settings tree.

`args:` of serve_config.yaml, TIMBRE_* in the environment, and what tests build. Every key is used;
an unknown one stops start-up and lists the valid names.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from cache_store.settings import SPEECH_RECORD_BYTES, CacheSettings, speech_url
from deployments.config import environment
from deployments.config.access.access_settings import AccessSettings
from deployments.config.admission_settings import AdmissionSettings
from deployments.config.asr_settings import AsrSettings
from deployments.config.job_settings import JobSettings
from deployments.config.long_text import LongTextSettings
from deployments.config.marks.mark_settings import MarkSettings
from deployments.config.mistakes import explain
from deployments.config.outside.clip_settings import ClipSettings
from deployments.config.scaling_settings import MemorySettings, ScalingSettings
from deployments.config.section import Positive, Seconds, Strict
from deployments.config.session_settings import SessionSettings
from deployments.config.stage_settings import (
    LLMSettings,
    LLMVariant,
    StageResources,
    TokenizerSettings,
    VocoderSettings,
)
from deployments.config.telemetry.telemetry_settings import TelemetrySettings
from deployments.config.tenants.quota_settings import QuotaSettings
from deployments.config.text_settings import TextSettings
from pipeline.audio.condition import Conditioning
from pipeline.contracts import BASE_VARIANT
from pipeline.errors import ConfigError

ALIASES = {
    "alloy": "aria", "ash": "bruno", "ballad": "bruno", "coral": "aria", "echo": "bruno",
    "fable": "bruno", "nova": "aria", "onyx": "bruno", "sage": "aria", "shimmer": "aria",
    "verse": "bruno", "marin": "aria", "cedar": "bruno",
    "happy_en": "aria", "fear_female": "elena",
}  # fmt: skip
Reuse = Literal["reuse", "refresh", "off"]  # what a request wishes of finished speech
VariantName = Annotated[str, Field(pattern="^[a-z0-9]+$")]


class Limits(Strict):
    """What the HTTP surface accepts, and how long the router waits."""

    max_requests: Positive = 60
    """Concurrent requests of one router, GET, HEAD and OPTIONS aside; further ones get 503."""
    max_body_bytes: Positive = 25 * 2**20
    """Largest request body; a larger one gets 413."""
    max_inflight_body_bytes: Positive = 256 * 2**20
    """Bytes of request bodies that one router holds at a time, each from its first byte until its
    clip is resolved to a voice; a body beyond that gets 503."""
    body_silence_s: Seconds = 10.0
    """Longest silence of a client within a request's body; then it gets 408."""
    slowest_body_bytes_s: Positive = 4096
    """Fewest bytes a second of a body, on average, after its first half minute; the same."""
    min_clip_s: Seconds = 0.5
    """Shortest reference clip."""
    max_clip_s: Seconds = 30.0
    """Longest reference clip."""
    max_edit_clip_s: Seconds = 180.0
    """Longest audio to edit; what is longer than max_clip_s is edited in parts."""
    min_sample_rate_hz: Positive = 8_000
    """Lowest sample rate of a reference clip."""
    max_sample_rate_hz: Positive = 192_000
    """Highest sample rate of a reference clip."""
    max_text_chars: Positive = 4_096
    """Longest text of an edit, and of an answer in one piece; a longer one is spoken in segments,
    see `long_text`."""
    max_long_text_chars: Positive = 100_000
    """Longest text to speak in one reply, in segments."""
    max_whole_text_chars: Positive = 20_000
    """The same of a reply that is sent whole, of turns and items of a batch together: it lies in
    the router's memory until then, 64 MB of wav for the default."""
    max_transcript_chars: Positive = 1_000
    """Longest transcript of a reference clip."""
    encode_timeout_s: Seconds = 60.0
    """Longest wait for a clip's encoding."""
    first_audio_timeout_s: Seconds = 60.0
    """Longest wait for the vocoder's first audio."""
    chunk_timeout_s: Seconds = 60.0
    """Longest wait for every later chunk, and for every chunk of tokens."""
    silence_timeout_s: Seconds = 4.0
    """Longest silence of a replica that speaks or has a request wait: it gives a sign of life every
    second. Then another one is asked, once; whoever waits gets 503 if that is silent, too."""

    @model_validator(mode="after")
    def _one_body_fits(self) -> Limits:
        if self.max_inflight_body_bytes < self.max_body_bytes:
            raise ValueError("max_inflight_body_bytes must be at least max_body_bytes")
        return self


class HttpSettings(Strict):
    """The HTTP surface, its limits aside."""

    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the service from a browser, such as "https://app.example",
    or "*" for all; none by default."""
    page: bool = True
    """Serve the page for browsers at /ui: files alone, without a key; it calls the API as any other
    client does."""


class VoiceSettings(Strict):
    """Named voices."""

    default: str = "aria"
    """The voice of a request with neither a voice nor a clip."""
    aliases: dict[str, str] = ALIASES
    """Other names of voices, so that clients that send OpenAI's names, or those of the
    predecessor's presets, work unchanged."""
    conditioning: Conditioning = Conditioning.SPEECH
    """Preprocessing of every reference clip before the encoder; see pipeline.audio.condition."""
    consent: Literal["required", "optional"] = "required"
    """Whether an uploaded voice must name a consent; with optional, uploads without one are
    logged."""
    max_uploaded: Positive = 1_000
    """Uploaded voices that are kept."""
    max_upload_bytes: Positive = 10 * 2**20
    """Largest clip of an upload, or recording of a consent."""
    keep_deleted_s: Annotated[float, Field(ge=0)] = 7 * 86_400.0
    """How long a deleted voice can be restored; then its clips and words are purged."""


class SpeechCacheSettings(Strict):
    """Finished speech, kept to be answered again; where and for whom is as in `cache`."""

    enabled: bool = True
    """Keep finished answers of requests with a seed, and answer equal ones from them."""
    unseeded: Literal["off", "derive"] = "off"
    """What a request without a seed and without a wish for the cache gets: off, speech of its own;
    derive, a seed made from the request itself, so that equal requests get equal speech (phone
    menus, greetings of agents)."""
    l1_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Kept in the memory of one router. A second of speech takes 48 kB."""
    l2_bytes: Annotated[int, Field(ge=0)] = 1024 * 2**20
    """Kept in the cluster's object store, by an index of its own."""
    l3_max_bytes: Annotated[int, Field(ge=0)] | None = 20_000 * 2**20
    """Budget of the directory `speech` below `cache.url`; what was not used for longest goes.
    Left empty it is unbounded. A bucket is bounded by `timbre cache gc --speech` or its own
    rules."""
    max_record_bytes: Annotated[int, Field(ge=2**16)] = SPEECH_RECORD_BYTES
    """Largest answer that is kept; the default is some eleven minutes."""
    keep_edits_s: Annotated[float, Field(ge=0)] = 7 * 86_400.0
    """How long an edit can be asked for and continued by its id."""

    @field_validator("unseeded", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads it as false

    def opened_beside(self, voices: CacheSettings) -> CacheSettings:
        """Settings of the cache of speech, whose records lie below those of voices."""
        return voices.model_copy(
            update={
                "url": speech_url(voices.url),
                "l1_bytes": self.l1_bytes,
                "alias_bytes": 0,
                "max_record_bytes": self.max_record_bytes,
                "l2_name": f"{voices.l2_name[:33]}-speech",
                "l2_bytes": self.l2_bytes,
                "l3_max_bytes": self.l3_max_bytes,
                "writeback_bytes": max(voices.writeback_bytes, self.max_record_bytes),
            }
        )


class ClusterSettings(Strict):
    """Facts about the cluster that start-up checks against."""

    gpu_device_gib: Annotated[float, Field(gt=0)] = 44.0
    """Usable memory of one GPU, for its replicas together (an L40S has 44.4 GiB)."""
    may_grow: bool = False
    """The autoscaler may add machines, so missing resources do not stop start-up."""
    rehearsal: bool = False
    """Stages on the CPU may hold shares of GPUs, so that a config for GPUs runs on machines that
    only say they have some (docs/operations/rehearsal.md). Never where customers are."""


class Settings(BaseSettings):
    """Everything `build_app` takes.

    The environment wins over YAML: TIMBRE_CACHE__URL sets `cache.url`.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may be a secret, and errors are logged
        env_prefix=environment.PREFIX,
        env_nested_delimiter=environment.DELIMITER,
        nested_model_default_partial_update=True,
    )

    model: str = "tiny"
    """`tiny` (embedded), `step-audio-editx` (downloaded), or a checkpoint directory."""
    config_file: str | None = None
    """The serve config that holds these args; linted and compared with the cluster at start."""
    limits: Limits = Limits()
    http: HttpSettings = HttpSettings()
    clips: ClipSettings = ClipSettings()
    access: AccessSettings = AccessSettings()
    admission: AdmissionSettings = AdmissionSettings()
    quotas: QuotaSettings = QuotaSettings()
    sessions: SessionSettings = SessionSettings()
    cache: CacheSettings = CacheSettings()
    speech_cache: SpeechCacheSettings = SpeechCacheSettings()
    long_text: LongTextSettings = LongTextSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    llm: LLMSettings = LLMSettings()
    llm_variants: dict[VariantName, LLMVariant] = {}
    """Further LLMs, each a deployment of its own; `llm` itself is the variant `base`."""
    vocoder: VocoderSettings = VocoderSettings()
    marks: MarkSettings = MarkSettings()
    asr: AsrSettings = AsrSettings()
    voices: VoiceSettings = VoiceSettings()
    text: TextSettings = TextSettings()
    jobs: JobSettings = JobSettings()
    scaling: ScalingSettings = ScalingSettings()
    memory: MemorySettings = MemorySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    cluster: ClusterSettings = ClusterSettings()

    @property
    def model_name(self) -> str:
        """The model as clients name it: a checkpoint directory's own name."""
        return PurePath(self.model).name

    def llm_of(self, variant: str) -> tuple[str, LLMSettings]:
        """The checkpoint of a variant, and the settings of its replicas."""
        if variant == BASE_VARIANT:
            return self.model, self.llm
        changed = self.llm_variants[variant].model_dump(exclude_none=True)
        model = changed.pop("model", self.model)
        return model, self.llm.model_copy(update=changed)

    @field_validator("llm_variants")
    @classmethod
    def _base_is_taken(cls, variants: dict[str, LLMVariant]) -> dict[str, LLMVariant]:
        if BASE_VARIANT in variants:
            raise ValueError(
                f"{BASE_VARIANT!r} is the LLM that `llm` describes; choose other names"
            )
        return variants

    @model_validator(mode="after")
    def _keys_are_kept_somewhere(self) -> Settings:
        if self.access.keys == "on" and self.cache.url == "none":
            raise ValueError("access.keys: on needs a store for the keys: cache.url is none")
        return self

    @model_validator(mode="after")
    def _listeners_are_deployed(self) -> Settings:
        if self.long_text.listens and not self.asr.enabled:
            raise ValueError("long_text.listens needs the recogniser: asr.enabled")
        return self

    @model_validator(mode="after")
    def _bounds_of_gpus_can_be_reached(self) -> Settings:
        for section in type(self.memory).model_fields.keys() - {"patience_s"}:
            bound_gib = getattr(self.memory, section).gpu_gib
            resources = getattr(self, section, None)
            cap_gib = resources.gpu_memory_gib if isinstance(resources, StageResources) else None
            if bound_gib is not None and (cap_gib is None or bound_gib >= cap_gib):
                raise ValueError(
                    f"memory.{section}.gpu_gib is {bound_gib:g} and must be below the stage's "
                    f"gpu_memory_gib, which is {'not set' if cap_gib is None else f'{cap_gib:g}'}"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then YAML; no dotenv, no secret files."""
        del dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _refuse_mistakes_in_the_environment(cls, data: Any) -> Any:
        found = environment.mistakes(cls, os.environ)
        if found:
            raise ValueError(
                f"unknown settings in the environment: {'; '.join(found)}; names are "
                f"{environment.PREFIX}<KEY> or "
                f"{environment.PREFIX}<SECTION>{environment.DELIMITER}<KEY>, "
                f"sections and keys: {', '.join(cls.model_fields)}"
            )
        return data


def load_settings(args: dict[str, Any]) -> Settings:
    """Settings from `args` of a serve config.

    Raises ConfigError that lists every mistake and the valid names.
    """
    if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
        raise ConfigError("args: names of settings and their values are expected")
    try:
        return Settings(**args)
    except ValidationError as error:
        raise ConfigError(explain(Settings, error)) from error
    except SettingsError as error:  # a whole section in one variable
        raise ConfigError(f"invalid settings: {error}: it is not valid JSON") from error
