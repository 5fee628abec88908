"""The measured rows with a floor: the lines of the page's projection.

Sizes are those of the kit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from load_tests.gpu.report.floors import (
    RELEASED_VOCODER,
    LlmShape,
    Vq02Shape,
    Work,
    llm_prefill,
    llm_step,
    spoken_s,
    vocode_streams,
    vocode_whole,
    vq02_work,
)
from load_tests.gpu.report.projection import Rates, floor_s
from load_tests.gpu.sizes import FULL, Sizes
from pipeline.stepaudio.tokens import GROUP_ROWS
from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS

SERVE_CONFIG = Path(__file__).parents[3] / "serve_config.yaml"
TEXT_TOKENS = 40  # behind the prefix, in the row "first token"
CLIPS = ((1, 6.0), (8, 6.0))  # how many, of how many seconds: the tokenizer's rows
MS, REAL_TIME = "ms", "RTF"


@dataclass(frozen=True, slots=True)
class Service:
    """Settings of serve_config.yaml for a replica of each stage on an L40S."""

    shares: dict[str, float]
    """Share of the device, by stage."""
    slots: int
    """Most streams of the LLM."""
    max_streams: int
    """Most streams of the vocoder."""
    prefill_chunk_tokens: int

    @classmethod
    def load(cls, path: Path = SERVE_CONFIG) -> Service:
        application = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"][0]
        args: dict[str, Any] = application["args"]
        shares = {
            stage["name"].lower(): stage["ray_actor_options"]["num_gpus"]
            for stage in application["deployments"]
            if "num_gpus" in stage["ray_actor_options"]
        }
        llm = args["llm"]
        return cls(
            shares, llm["slots"], args["vocoder"]["max_streams"], llm["prefill_chunk_tokens"]
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a section, and the work that it measures."""

    section: str
    what: str
    unit: str
    works: Sequence[Work]
    amount: float
    """For a rate, how much one go of `works` makes; for a time, what turns its seconds into the
    row's unit."""
    is_rate: bool = False
    streams: int | None = None
    """None where the row is of one stream by its nature."""

    def at(self, seconds: float) -> float:
        """The row's value when one run takes this long."""
        return self.amount / seconds if self.is_rate else self.amount * seconds

    def floor(self, rates: Rates) -> float:
        """The best value that a card of these rates allows."""
        return self.at(floor_s(self.works, rates))

    def slower(self, value: float, factor: float) -> float:
        """The value where everything takes `factor` times longer."""
        return value / factor if self.is_rate else value * factor

    def share_of_floor(self, value: float, rates: Rates) -> float:
        """How near a value comes to the floor, at most 1."""
        floor = self.floor(rates)
        return value / floor if self.is_rate else floor / value


def released_lines(service: Service, sizes: Sizes = FULL) -> list[Line]:
    """Every line, stage by stage, at the released models' shapes."""
    return [*llm_lines(service, sizes), *vocoder_lines(sizes), *tokenizer_lines()]


def llm_lines(service: Service, sizes: Sizes) -> list[Line]:
    """Rates by batch, and the first token; caches as they are half-way."""
    shape, kept = LlmShape(), sizes.prompt_tokens + sizes.tokens // 2
    chunk, prefix = service.prefill_chunk_tokens, sizes.prefix_tokens
    text = llm_prefill(shape, TEXT_TOKENS, chunk, past=prefix)
    return [
        *(
            Line("llm", f"batch {n}: rate", "tok/s", [llm_step(shape, n, kept)], n, True, n)
            for n in sizes.batches
        ),
        Line("llm", "first token, cached prefix", MS, text, 1e3),
        Line(
            "llm",
            "first token, no reuse",
            MS,
            [*llm_prefill(shape, prefix, chunk), *text],  # a chunk ends where the prefix does
            1e3,
        ),
    ]


def vocoder_lines(sizes: Sizes) -> list[Line]:
    """One utterance whole, streamed, its first piece, and streams together."""
    config, rows = RELEASED_VOCODER, sizes.groups * GROUP_ROWS
    prompt, audio_s = sizes.prompt_groups * GROUP_ROWS, spoken_s(sizes.groups * GROUP_ROWS)
    whole, streamed = vocode_whole(config, rows, prompt), vocode_streams(config, rows, prompt)
    first = vocode_streams(config, CHUNK_ROWS[0], prompt)
    return [
        Line("vocoder", "offline RTF", REAL_TIME, whole, 1 / audio_s),
        Line("vocoder", "streaming RTF", REAL_TIME, streamed, 1 / audio_s),
        Line("vocoder", "first piece, all tokens there", MS, first, 1e3),
        *(
            Line(
                "vocoder",
                f"{n} streams: audio seconds a second",
                "x",
                vocode_streams(config, rows, prompt, n),
                n * audio_s,
                True,
                n,
            )
            for n in sizes.streams
        ),
    ]


def tokenizer_lines() -> list[Line]:
    """vq02; the other parts have rows of their own where onnxruntime has the card."""
    return [
        Line(
            "tokenizer",
            f"vq02 on cuda, {n} of {clip_s:g} s: in all",
            MS,
            [vq02_work(Vq02Shape(), [clip_s] * n)],
            1e3,
        )
        for n, clip_s in CLIPS
    ]
