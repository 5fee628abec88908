"""One segment: what is asked for to fit its time, however its text is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.config.text_settings import PronunciationEntry
from deployments.edits.documents import EditStep, WrittenReading
from deployments.jobs.documents import FIRST, Cue, JobPlan, JobSegment
from deployments.jobs.speaking import SegmentSpeaker
from pipeline.contracts import Mode
from pipeline.text.options import AS_USUAL
from tests.job_runners import Replica, Tally, replicas

pytestmark = pytest.mark.unit
SQL = PronunciationEntry.model_validate({"written": "SQL", "said": "sequel"})
TAGGED = "It is SQL. [Laughter]"


def plan_of(segment: JobSegment) -> JobPlan:
    return JobPlan(
        created_unix_s=0,
        n_segments=1,
        n_chars=len(segment.text),
        seed=7,
        response_format="wav",
        readings={"aria": WrittenReading(pronunciations=(SQL,))},
    )


async def test_a_segment_that_is_read_its_own_way_is_hurried(tmp_path: Path):
    one = Replica(tmp_path, Tally())
    segment = JobSegment(text="It is SQL.", voice="aria", cue=Cue(begin_s=0.0, end_s=0.2))
    async with replicas(one):
        speaker = SegmentSpeaker(one.settings, one.voices, one.speech)
        steps = plan_of(segment).steps(segment, 0, FIRST)
        part = await speaker.make(one.voices.namespace, segment, 0, steps)
    assert part.facts.fault is None
    spoken, hurried = one.speaker.requests
    assert (spoken.mode, spoken.text) == (Mode.CLONE, "It is SQL.")
    assert [rule.said for rule in spoken.reading.pronunciations] == ["sequel"]
    assert (hurried.mode, hurried.info, hurried.iterations) == (Mode.SPEED, "faster", 1)
    assert hurried.reading == AS_USUAL
    assert hurried.sampling == spoken.sampling


async def test_what_an_edit_says_is_read_as_its_segment_is(tmp_path: Path):
    one = Replica(tmp_path, Tally())
    laugh = EditStep(mode=Mode.PARALINGUISTIC, text=TAGGED, seed=0)
    happy = EditStep(mode=Mode.EMOTION, info="happy", seed=0)
    segment = JobSegment(text="It is SQL.", voice="aria", edits=(happy, laugh))
    async with replicas(one):
        speaker = SegmentSpeaker(one.settings, one.voices, one.speech)
        steps = plan_of(segment).steps(segment, 0, FIRST)
        await speaker.make(one.voices.namespace, segment, 0, steps)
    read = [(str(one.mode), len(one.reading.pronunciations)) for one in one.speaker.requests]
    assert read == [("clone", 1), ("emotion", 0), ("paralinguistic", 1)]
