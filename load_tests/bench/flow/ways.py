"""What the model is told and what it finds: ways of control, costs, a cluster, an outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Notice(StrEnum):
    """How an LLM replica learns that who reads a stream is dead."""

    LEASE = "lease"
    END = "end of the answer"
    CONNECTION = "connection"


class Transport(StrEnum):
    """How Serve carries a stream."""

    REFERENCE = "by reference"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Way:
    """One way of control.

    window_tokens: how far a stream may run ahead of its reader, 0 for no window. is_broadcast:
    grants go to every LLM replica, else to the one. yields: streams ahead of their playback let
    others go first.
    """

    name: str
    transport: Transport
    notice: Notice
    window_tokens: int = 0
    is_broadcast: bool = False
    yields: bool = False


WAYS = (
    Way("credit, broadcast", Transport.REFERENCE, Notice.LEASE, 300, is_broadcast=True),
    Way("credit, mailbox", Transport.REFERENCE, Notice.LEASE, 300),
    Way("no window", Transport.REFERENCE, Notice.END),
    Way("no window, connection", Transport.CONNECTION, Notice.CONNECTION),
    Way("engine's clock, connection", Transport.CONNECTION, Notice.CONNECTION, yields=True),
)


@dataclass(frozen=True, slots=True)
class Costs:
    """Of messages, seconds of CPU or of time.

    call_*: a control call, for each replica called. chunk_*: one piece of a stream. hop_s: from
    one process to another. broken_s: from a reader's death to its stream's end.
    """

    call_sender_s: float
    call_receiver_s: float
    chunk_sender_s: float
    chunk_receiver_s: float
    hop_s: float
    broken_s: float


# Of a quiet run of `--ray` (load_tests/results/flow_ray_cpu.json): paced chunks; the caller of a
# broadcast to four, for each; a call's receiver; the death. By reference none is told of a death:
# broken_s is not used there.
COSTS = {
    Transport.REFERENCE: Costs(0.88e-3, 2.25e-3, 1.47e-3, 1.57e-3, 2.0e-3, 0.015),
    Transport.CONNECTION: Costs(0.88e-3, 2.25e-3, 2.03e-3, 1.1e-3, 1.06e-3, 0.015),
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Replicas, what their work takes, and who listens.

    step_s, row_s: an engine's step, and what each stream in it adds. audio_fixed_s, audio_rtf: a
    vocoder's piece. leaving: share of listeners who leave at some moment of their answer. dying:
    vocoders that are killed, at dies_s.
    """

    name: str
    step_s: float
    row_s: float
    prefill_s: float
    audio_fixed_s: float = 0.02
    audio_rtf: float = 0.03
    llms: int = 64
    vocoders: int = 200
    streams: int = 1000
    slots: int = 24
    answer_tokens: tuple[int, int] = (200, 1250)
    leaving: float = 0.2
    ramp_s: float = 12.0
    dying: int = 10
    dies_s: float = 22.0
    ends_s: float = 40.0


# A third as fast as an H100, which makes 344 and 9,237 tokens a second with 1 and 64 streams; the
# embedded model on four cores, which makes 993 and 2,718 with 1 and 8.
CLUSTERS = (
    Cluster("a third of an H100", step_s=8.5e-3, row_s=0.19e-3, prefill_s=21e-3),
    Cluster(
        "a third of an H100, 10 slots", step_s=8.5e-3, row_s=0.19e-3, prefill_s=21e-3, slots=10
    ),
    Cluster("embedded", step_s=0.73e-3, row_s=0.28e-3, prefill_s=7e-3),
)


@dataclass(slots=True)
class Outcome:
    """What a run found; counts are of the whole of it.

    wasted_tokens: drawn for listeners who left, beyond what they had heard. engine_s: of all
    engines. *_loop_share: of the busiest event loop's time that messages took. freed_s: from a
    vocoder's death, for each slot that its streams held; held: those not freed at the end;
    orphan_tokens: drawn for nobody meanwhile.
    """

    first_audio_s: list[float] = field(default_factory=list)
    underruns: int = 0
    abandoned: int = 0
    wasted_tokens: int = 0
    drawn_tokens: int = 0
    engine_s: float = 0.0
    chunk_cpu_s: float = 0.0
    control_calls: int = 0
    control_cpu_s: float = 0.0
    llm_loop_share: float = 0.0
    vocoder_loop_share: float = 0.0
    freed_s: list[float] = field(default_factory=list)
    orphan_tokens: int = 0
    held: int = 0
