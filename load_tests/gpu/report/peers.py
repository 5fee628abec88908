"""Published figures of other systems, from peers.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PEERS = Path(__file__).parents[1] / "peers.yaml"


@dataclass(frozen=True, slots=True)
class Peer:
    """A system that speaks. Streams → milliseconds, and → seconds of audio a second in all."""

    name: str
    model: str
    card: str
    date: str
    statistic: str | None
    """The statistic of first_audio_ms; None without such figures."""
    first_audio_ms: Mapping[int, float]
    audio_s_per_s: Mapping[int, float]
    notes: str
    source: dict[str, str]
    """Title and URL."""


@dataclass(frozen=True, slots=True)
class LlmPeer:
    """An LLM alone, one stream."""

    name: str
    card: str
    tokens_per_s: float
    notes: str
    source: dict[str, str]


@dataclass(frozen=True, slots=True)
class Peers:
    """peers.yaml."""

    peers: Sequence[Peer]
    llm_peers: Sequence[LlmPeer]
    remarks: Sequence[str]

    @classmethod
    def load(cls, path: Path = PEERS) -> Peers:
        """Raises TypeError for an unknown or missing field."""
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return cls(
            [Peer(**entry) for entry in document["peers"]],
            [LlmPeer(**entry) for entry in document["llm_peers"]],
            document["remarks"],
        )
