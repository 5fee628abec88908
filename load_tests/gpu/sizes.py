"""How large everything is that the kit measures: as released, or small enough to rehearse."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Shapes and counts of the kit's measurements."""

    is_rehearsal: bool
    llm: dict[str, int]
    """Fields of Step1Config that differ from the 3B model's."""
    batches: tuple[int, ...]
    """Numbers of streams that the LLM decodes together."""
    tokens: int
    """Tokens drawn per stream."""
    repeats: int
    context_tokens: int
    prompt_tokens: int
    prefix_tokens: int
    joining_tokens: int
    streams: tuple[int, ...]
    """Streams of the vocoder."""
    chain_streams: tuple[int, ...]
    """Streams of the whole chain."""
    groups: int
    """Groups of 120 ms that the vocoder speaks."""
    prompt_groups: int
    """Groups of the vocoder's prompt."""
    known_voices: int
    """Voices of the chain."""
    voices: str
    """Sizes of vocoder and encoder: full or tiny."""
    vq02_layers: int
    """Layers of the linguistic tokenizer."""
    copy_mib: int
    matmul_width: int


FULL = Sizes(
    is_rehearsal=False,
    llm={},
    batches=(1, 4, 8, 16, 32, 64),
    tokens=100,
    repeats=2,
    context_tokens=2048,
    prompt_tokens=200,
    prefix_tokens=600,
    joining_tokens=1500,
    streams=(1, 4, 8, 16, 32),
    chain_streams=(1, 8, 32, 64),
    groups=80,
    prompt_groups=50,
    known_voices=8,
    voices="full",
    vq02_layers=50,
    copy_mib=2048,
    matmul_width=8192,
)

REHEARSAL = Sizes(
    is_rehearsal=True,
    llm={
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_attention_groups": 2,
        "num_hidden_layers": 2,
        "vocab_size": 8192,
    },
    batches=(1, 4),
    tokens=20,
    repeats=1,
    context_tokens=512,
    prompt_tokens=40,
    prefix_tokens=100,
    joining_tokens=400,
    streams=(1, 2),
    chain_streams=(1, 2),
    groups=10,
    prompt_groups=10,
    known_voices=2,
    voices="tiny",
    vq02_layers=2,
    copy_mib=16,
    matmul_width=256,
)
