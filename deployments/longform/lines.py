"""What is asked for each segment of a long text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deployments.speech.seeds import derived_seed
from pipeline.contracts import Mode, SpeechRequest
from pipeline.splitting.segments import Segment, spoken_segments
from pipeline.text.ssml.document import without_ssml
from pipeline.wording import TEXT_PARAM, about


@dataclass(frozen=True, slots=True)
class Line:
    """One segment to be spoken."""

    number: int
    """Its place in the whole, from 0."""
    segment: Segment
    request: SpeechRequest
    """The whole text's request, with the segment's words and a seed of its own."""

    def redrawn(self) -> SpeechRequest:
        """The request of the second draw, whose seed follows from the first's."""
        return _seeded(self.request, f"{self.request.sampling.seed}/again")


def lines_of(request: SpeechRequest) -> list[Line]:
    """A request's segments that say something. Blocks for a long text.

    A text of one segment, and an edit, are one line: the request itself. Every other's seed follows
    from the request's and the segment's place. SSML is cut as the text that it says. Raises
    InputError for SSML that is not served.
    """
    spoken = list[Segment]()
    if request.mode is Mode.CLONE:
        spoken = spoken_segments(about(TEXT_PARAM, without_ssml, request.text))
    if len(spoken) <= 1:
        whole = Segment(request.text, 0, len(request.text), 0.0)
        return [Line(0, whole, request)]
    return [
        Line(number, part, _of_segment(request, number, part)) for number, part in enumerate(spoken)
    ]


def _of_segment(request: SpeechRequest, number: int, part: Segment) -> SpeechRequest:
    """Only the first is waited for: later ones come in usual chunks."""
    asked = replace(request, text=part.text)
    if number:
        terms = replace(request.terms, is_begun=True, due_s=None)
        asked = replace(asked, first_chunk_rows=None, is_adaptive=False, terms=terms)
    return _seeded(asked, f"{request.sampling.seed}/{number}")


def _seeded(request: SpeechRequest, name: str) -> SpeechRequest:
    seed = derived_seed("segment", name)
    return replace(request, sampling=replace(request.sampling, seed=seed))
