"""What a request will probably take, before anything of it is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields, replace

from deployments.admission.line import Demand
from pipeline.contracts import GROUP_S, GROUP_TOKENS, Mode, SpeechRequest, VoicePrompt
from pipeline.serving.terms import Terms
from pipeline.splitting.weights import expected_s

LEAST_S = 0.6  # of any answer


def demand_of(
    request: SpeechRequest, voice: VoicePrompt, size_bytes: int, chunk_rows: Sequence[int]
) -> Demand:
    """By the rate of the reference; an edit sounds about as long as what is edited."""
    if request.mode is Mode.CLONE:
        audio_s = expected_s(request.transcript, voice)(request.text)
    elif request.source is not None:
        audio_s = len(request.source.ids) / GROUP_TOKENS * GROUP_S
    else:
        audio_s = voice.duration_s
    most_s = request.sampling.max_tokens / GROUP_TOKENS * GROUP_S
    return Demand(size_bytes, max(min(audio_s, most_s), LEAST_S), chunk_rows, request.speed)


def arrived(request: SpeechRequest) -> SpeechRequest:
    """A request that came from another process now.

    A router before an update says nothing, or less, of its terms: what it sent lacks fields.
    """
    known = {one.name for one in fields(request) if hasattr(request, one.name)}
    if "terms" not in known:
        return SpeechRequest(**{name: getattr(request, name) for name in known})
    sent = request.terms
    told = {one.name for one in fields(sent) if hasattr(sent, one.name)}
    terms = Terms(**{name: getattr(sent, name) for name in told})
    return replace(request, terms=terms.arrived(time.monotonic()))
