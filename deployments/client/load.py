"""A small closed loop on a service: so many clients, each with one call after another.

Its numbers mean what those of the load tests mean; it brings no clips and keeps no rate.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from deployments.client.service import Service
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.errors import CapacityError, TimbreError

REFUSED = "refused"
PCM_BYTES_S = 48_000  # 16 bits at 24 kHz
TEXTS = (
    "You only need to hear a voice once to speak with it again.",
    "The train to the coast leaves from the second platform in a few minutes.",
    "Please write your name at the top of the page, and the date below it.",
    "She opened the window, and the smell of rain came into the room.",
)
_SHARES = {"p50": 0.5, "p95": 0.95}


@dataclass(frozen=True, slots=True)
class Call:
    """What became of one.

    whole_s: from its sending to its last byte. fault: empty when it was answered, REFUSED when the
    service was full, else what failed.
    """

    heard: Continuity
    whole_s: float
    fault: str = ""


def closed_loop(
    service: Service, voice: str, *, clients: int, calls: int, done: Callable[[], None]
) -> tuple[Sequence[Call], float]:
    """All calls, and the seconds that they took together. done: told of each that ended."""
    lock = threading.Lock()

    def one(number: int) -> Call:
        call = _called(service, voice, TEXTS[number % len(TEXTS)])
        with lock:
            done()
        return call

    began_s = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        made = list(pool.map(one, range(calls)))
    return made, time.monotonic() - began_s


def summary(calls: Sequence[Call], lasts_s: float) -> dict[str, Any]:
    """The numbers, by name; seconds unless they are shares."""
    answered = [call for call in calls if not call.fault]
    firsts = [call.heard.ttfa_s for call in answered if call.heard.ttfa_s is not None]
    factors = [call.whole_s / call.heard.audio_s for call in answered if call.heard.audio_s]
    dry = sum(call.heard.underruns > 0 for call in answered)
    faults = [call.fault for call in calls if call.fault]
    return {
        "calls": len(calls),
        "answered": len(answered),
        "refused": faults.count(REFUSED),
        "failed": len(faults) - faults.count(REFUSED),
        "faults": sorted({fault for fault in faults if fault != REFUSED}),
        "lasts_s": round(lasts_s, 3),
        "first_audio_s": _shares(firsts),
        "whole_s": _shares([call.whole_s for call in answered]),
        "rtf": _shares(factors),
        "dry_share": dry / len(answered) if answered else None,
        "audio_s_per_s": round(sum(call.heard.audio_s for call in answered) / lasts_s, 3),
    }


def _called(service: Service, voice: str, text: str) -> Call:
    body = {"input": text, "voice": voice, "response_format": "pcm", "cache": "off"}
    began_s = time.monotonic()
    meter = PlaybackMeter(began_s)
    fault = ""
    try:
        with service.streamed("POST", "/v1/audio/speech", json=body) as reply:
            for piece in reply.iter_raw():
                meter.sent(len(piece) / PCM_BYTES_S, time.monotonic())
    except CapacityError:
        fault = REFUSED
    except TimbreError as error:
        fault = error.message
    heard = meter.continuity()
    if not fault and not heard.pieces:
        fault = "no audio"
    return Call(heard, time.monotonic() - began_s, fault)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _shares(values: Sequence[float]) -> dict[str, float | None]:
    found = {name: percentile(values, share) for name, share in _SHARES.items()}
    return {name: None if value is None else round(value, 4) for name, value in found.items()}
