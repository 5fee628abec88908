"""`timbre plan`: how many cards a load takes, and what it costs."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer

from deployments.commands.options import tell, watching
from pipeline.cli import AsJson, one_line_errors
from pipeline.errors import ConfigError


class When(StrEnum):
    """How requests come."""

    STEADY = "steady"
    BURSTS = "bursts"
    DAY = "day"


@one_line_errors
def plan(
    rps: Annotated[float, typer.Option(help="Requests a second; of a day, in its busiest hour.")],
    hit_rate: Annotated[float, typer.Option(help="Share of voices that are known.")] = 0.7,
    speech_hit_rate: Annotated[
        float, typer.Option(help="Share of requests answered by speech that was kept.")
    ] = 0.0,
    ttfa: Annotated[float, typer.Option(help="Seconds to the first audio, of 95 in 100.")] = 1.5,
    card: Annotated[str, typer.Option(help="Which hardware: l40s, h100 or cpu.")] = "l40s",
    audio_s: Annotated[float, typer.Option(help="Mean seconds of speech of an answer.")] = 9.6,
    clip_s: Annotated[float, typer.Option(help="Seconds of a voice's clip.")] = 6.0,
    kept: Annotated[
        float, typer.Option(help="Share of the speech made that is kept: its seed is named.")
    ] = 0.0,
    when: Annotated[When, typer.Option(help="How requests come.")] = When.STEADY,
    overlap: Annotated[
        float, typer.Option(help="Of processes on one card: 1 they take turns, 2 they do not.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Say how many cards a load takes, what else it needs, and what that costs, by simulation."""
    if find_spec("simpy") is None:
        raise ConfigError("timbre plan needs SimPy: pip install 'timbre[plan]'")
    from deployments.capacity.arrivals import Use
    from deployments.capacity.plan import Question
    from deployments.capacity.plan import plan as planned
    from deployments.capacity.profile import load_profile
    from deployments.capacity.told import document, lines

    profile = load_profile(card)
    use = Use(audio_s=audio_s, clip_s=clip_s, kept_share=kept)
    question = Question(rps, hit_rate, speech_hit_rate, ttfa, use, when.value, overlap)
    with watching().status("simulating"):
        answer = planned(profile, question)
    told = document(profile, question, answer)
    tell(told, as_json, "\n".join(lines(profile, question, answer)))
