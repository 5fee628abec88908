"""What every stage takes on some hardware, and what saturates around them; read from `profiles/`.

Profiles are written by `python -m load_tests.simulate.profiles` from the benchmarks' results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LanguageModelCosts:
    """One replica of the LLM that has its device to itself."""

    step_s: tuple[tuple[int, float], ...]
    """Streams, and seconds of a step that draws a token for each; ascending."""
    prefill_s: float
    """Of a text behind a prefix that is kept."""
    prefill_new_s: float
    """Of a text and its voice's prefix."""
    slots: int
    slots_apart: int
    """Of a replica with a whole device to itself."""
    chunk_tokens: int
    """Handed out at a time, after the beginning."""
    kept_voices: int
    """Prefixes that a replica keeps."""
    passage_s: float
    """Of what it speaks in one answer, at most; longer texts are spoken in several."""

    def step(self, streams: int) -> float:
        """Seconds of a step; between and beyond what was measured, in a straight line."""
        known = self.step_s
        if streams <= known[0][0] or len(known) == 1:
            return known[0][1]
        pairs = list(pairwise(known))
        (n0, s0), (n1, s1) = next((p for p in pairs if streams <= p[1][0]), pairs[-1])
        return s0 + (streams - n0) * (s1 - s0) / (n1 - n0)


@dataclass(frozen=True, slots=True)
class VocoderCosts:
    """One replica of the vocoder that has its device to itself."""

    call_s: float
    """Of every call, however many chunks it makes."""
    row_s: float
    """Of every row (40 ms of audio), and of `fixed_rows` more for each chunk."""
    fixed_rows: float
    switch_s: float
    """Of a call for another stream than the last one, whose state is no longer at hand."""
    prompt_s: float
    """Of a voice's prompt, where its state is not kept."""
    chunk_rows: tuple[int, ...]
    quiet_first_rows: int
    together: int
    """Chunks of different streams in one call, at most."""
    max_streams: int
    max_streams_apart: int
    """Of a replica with a whole device to itself."""
    queue_size: int
    kept_voices: int
    """States of voices that a replica keeps."""

    def chunks(self, rows: int, n_chunks: int) -> float:
        """Seconds of a call for chunks of so many rows in all."""
        return self.call_s + (rows + self.fixed_rows * n_chunks) * self.row_s


@dataclass(frozen=True, slots=True)
class TokenizerCosts:
    """One replica of the tokenizer: seconds of a clip, and of each second in it."""

    clip_s: float
    audio_s_s: float

    def encode(self, audio_s: float) -> float:
        return self.clip_s + self.audio_s_s * audio_s


@dataclass(frozen=True, slots=True)
class FrontCosts:
    """Router and proxy: core seconds that a request waits for."""

    before_s: float
    """Until a vocoder is asked."""
    after_s: float
    """From its first chunk until the caller has it."""
    piece_s: float
    """Of each further chunk."""
    hit_s: float
    """Of speech that was kept, until its first byte."""
    look_up_s: float
    """Of a voice that is in the tiers below memory."""
    write_s: float
    """Of a passage's prompt."""
    call_s: float
    """Of a vocoder's call of the LLM, until its first tokens could be back."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a process, or a store, can take."""

    what: str
    """Which."""
    per: str
    """Of what: `audio_s` (seconds of speech sent), `kept_audio_s` (of speech with a seed, which is
    looked for and kept), `look_up` (of the index), `object` (read from or written to the store),
    `replica` (that the controller looks after)."""
    core_s: float
    """Seconds of one core, or of the store, for each."""
    most: int | None
    """As many of it as there can be; None: as many as one likes."""
    source: str
    """Where the number is from."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Hardware, and the service on it."""

    name: str
    how: str
    """Whether it was measured, or projected from what; one sentence."""
    device_capacity: float
    """1 of a GPU, which LLM, vocoder and tokenizer share; of a CPU its cores, which all share."""
    front_is_apart: bool
    """Whether router and proxies have cores of their own."""
    engine_weight: float
    """Part of the device that computing threads get beside router and proxy, which get 1."""
    llm: LanguageModelCosts
    vocoder: VocoderCosts
    tokenizer: TokenizerCosts
    front: FrontCosts
    limits: tuple[Limit, ...]
    price_usd_h: float
    """Of one device."""
    price_of: str
    sources: tuple[str, ...]
    """Files and commits behind the numbers."""

    def apart(self) -> Profile:
        """With a device for each replica of LLM and vocoder."""
        llm = replace(self.llm, slots=self.llm.slots_apart)
        vocoder = replace(self.vocoder, max_streams=self.vocoder.max_streams_apart)
        return replace(self, llm=llm, vocoder=vocoder)


_PROFILE = TypeAdapter(Profile)


def profile_of(document: Any) -> Profile:
    """Raises ConfigError for what is no profile."""
    try:
        return _PROFILE.validate_python(document)
    except ValidationError as error:
        raise ConfigError(f"no profile: {error}") from error


def profile_names() -> list[str]:
    """Of those that timbre ships."""
    found = (files("deployments.capacity") / "profiles").iterdir()
    return sorted(one.name.removesuffix(".json") for one in found if one.name.endswith(".json"))


def load_profile(name: str) -> Profile:
    """One that timbre ships. Raises ConfigError with the names of all."""
    if name not in (known := profile_names()):
        raise ConfigError(f"no profile is named {name!r}; there are {', '.join(known)}")
    path = files("deployments.capacity") / "profiles" / f"{name}.json"
    return profile_of(json.loads(path.read_text(encoding="utf-8")))
