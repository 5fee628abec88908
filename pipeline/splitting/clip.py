"""Cuts a clip that is longer than the model takes into parts, each with the words said in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from pipeline.contracts import Float32Array
from pipeline.errors import ClipDurationError, InputError
from pipeline.splitting.alignment import SURE, borders_at_pauses
from pipeline.splitting.pauses import Pauses, find_pauses
from pipeline.splitting.weights import weight_of
from pipeline.text.segment import sentence_ends

# Seconds of speech for a letter, pauses aside: outside, words are missing in the text or the clip.
_LEAST_RATE_S, _MOST_RATE_S = 0.035, 0.125
ADVICE = "; or cut it at a pause yourself, and send each part with its own transcript"


@dataclass(frozen=True, slots=True, eq=False)
class ClipPart:
    """A part of a clip."""

    samples: Float32Array
    """(n,), mono, at the clip's rate."""
    transcript: str
    """The words said in it; empty where nobody told."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A place to cut at: in the clip, and in its text."""

    at_s: float
    character: int
    worth: float
    """Of several in reach the best is taken."""


def split_clip(
    samples: Float32Array, sample_rate_hz: int, transcript: str, limit_s: float
) -> list[ClipPart]:
    """A clip, float32 (n,), in parts of at most `limit_s` seconds, cut within its pauses.

    transcript: what is said in the whole clip; where it is told, cuts are at ends of sentences
    that can only be at one pause. Raises ClipDurationError where there is no pause in reach, and
    InputError where no sentence's end is sure enough. Neither has `param`.
    """
    pauses = find_pauses(samples, sample_rate_hz)
    cuts = _sure_cuts(pauses, transcript) if transcript else _free_cuts(pauses)
    chosen = list(_chosen(cuts, pauses.whole_s, limit_s, has_text=bool(transcript)))
    places = [round(cut.at_s * sample_rate_hz) for cut in chosen]
    ends = [cut.character for cut in chosen]
    return [
        ClipPart(part, text.strip())
        for part, text in zip(np.split(samples, places), _texts(transcript, ends), strict=True)
    ]


def _texts(transcript: str, ends: list[int]) -> list[str]:
    starts = [0, *ends]
    return [
        transcript[start:end] for start, end in zip(starts, [*ends, len(transcript)], strict=True)
    ]


def _free_cuts(pauses: Pauses) -> list[_Cut]:
    """Anywhere in a pause; longer ones are better."""
    return [_Cut(pause.middle_s, 0, pause.length_s) for pause in pauses.inner]


def _sure_cuts(pauses: Pauses, transcript: str) -> list[_Cut]:
    """Ends of sentences that are surely at one pause; later ones are better."""
    whole = weight_of(transcript)
    rate_s = pauses.spoken_s / whole if whole else 0.0
    if not _LEAST_RATE_S <= rate_s <= _MOST_RATE_S:
        raise InputError(
            f"the transcript has {len(transcript)} characters, and the audio "
            f"{pauses.spoken_s:.0f} s of speech: these are not the same words. Audio this long is "
            "edited in parts, and the whole transcript is needed to cut it"
        )
    ends = [end for end in sentence_ends(transcript) if transcript[end:].strip()]
    sure = borders_at_pauses(pauses, [weight_of(transcript[:end]) / whole for end in ends])
    return [
        _Cut(pauses.inner[pause].middle_s, ends[border], pauses.inner[pause].middle_s)
        for border, pause in np.argwhere(sure >= SURE)
    ]


def _chosen(cuts: list[_Cut], whole_s: float, limit_s: float, *, has_text: bool) -> Iterator[_Cut]:
    """The best cuts in reach, each in the later half of its part where there is one."""
    start_s = 0.0
    while whole_s - start_s > limit_s:
        reach = [cut for cut in cuts if start_s < cut.at_s <= start_s + limit_s]
        late = [cut for cut in reach if cut.at_s > start_s + limit_s / 2]
        if not reach:
            raise _no_cut(start_s, start_s + limit_s, limit_s, has_text=has_text)
        cut = max(late or reach, key=attrgetter("worth"))
        yield cut
        start_s = cut.at_s


def _no_cut(start_s: float, end_s: float, limit_s: float, *, has_text: bool) -> InputError:
    where = f"between {start_s:.1f} and {end_s:.1f} s"
    if not has_text:
        return ClipDurationError(
            f"the audio is edited in parts of at most {limit_s:g} s, and there is no pause "
            f"{where} to cut it at"
        )
    return InputError(
        f"the audio is edited in parts of at most {limit_s:g} s, and {where} no pause is surely a "
        "sentence's end in the transcript, so that words might get to the wrong part. Check the "
        f"transcript, and that its sentences end in full stops{ADVICE}"
    )
