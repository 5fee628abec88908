"""What is written of pronunciations: read by other versions, and as rules in their order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deployments.config.settings import load_settings
from deployments.config.text_settings import PronunciationEntry
from deployments.edits.documents import EditStep, WrittenReading
from deployments.jobs.documents import JobPlan
from deployments.pronunciation.documents import Dictionaries
from pipeline.contracts import Mode
from pipeline.errors import ConfigError
from pipeline.text.dictionary import MOST_SAID_CHARS, MOST_WRITTEN_CHARS
from pipeline.text.options import AS_USUAL, Pronunciation, Reading

pytestmark = pytest.mark.unit
ENTRY = {"written": "SQL", "said": "sequel"}
LATER = {**ENTRY, "stress": 2, "since": "a later version"}
DICTIONARY = {"name": "terms", "created_unix_s": 1, "updated_unix_s": 1}


def dictionaries(**entries: list[dict[str, Any]]) -> Dictionaries:
    by_id = {one: {**DICTIONARY, "entries": found} for one, found in entries.items()}
    return Dictionaries.read({"by_id": by_id})


def test_fields_of_later_versions_are_passed_over():
    """In an update the older routers read what the newer ones write."""
    known = PronunciationEntry.model_validate(ENTRY)
    read = dictionaries(pron_1=[LATER])
    assert read.by_id["pron_1"].entries == (known,)
    assert read == dictionaries(pron_1=[ENTRY])
    step = {"mode": "clone", "seed": 1, "text": "a", "reading": {"pronunciations": [LATER]}}
    reading = EditStep.read(step).reading
    assert reading is not None
    assert reading.pronunciations == (known,)
    plan = {
        "created_unix_s": 0, "n_segments": 1, "n_chars": 1, "seed": 0, "response_format": "wav",
        "readings": {"aria": {"pronunciations": [LATER], "accent": "later"}},
    }  # fmt: skip
    assert JobPlan.read(plan).readings["aria"] == WrittenReading(pronunciations=(known,))


def test_what_cannot_be_used_is_refused_of_documents_too():
    with pytest.raises(ValidationError):
        dictionaries(pron_1=[{**ENTRY, "written": "(", "regex": True}])
    with pytest.raises(ValidationError):
        dictionaries(pron_1=["SQL"])  # type: ignore[list-item]


def test_what_callers_and_operators_write_has_no_unknown_fields():
    with pytest.raises(ValidationError, match="stress"):
        PronunciationEntry.model_validate(LATER)
    with pytest.raises(ConfigError, match="stress"):
        load_settings({"text": {"pronunciations": [LATER]}})


@pytest.mark.parametrize("is_regex", [False, True])
@pytest.mark.parametrize(
    ("most", "name"), [(MOST_WRITTEN_CHARS, "written"), (MOST_SAID_CHARS, "said")]
)
def test_entries_have_a_length(most: int, name: str, is_regex: bool):
    fits = {**ENTRY, name: "x" * most, "regex": is_regex}
    PronunciationEntry.model_validate(fits)
    with pytest.raises(ValidationError, match=f"at most {most}"):
        PronunciationEntry.model_validate({**fits, name: "x" * (most + 1)})


def test_rules_are_made_once_in_the_order_they_are_tried():
    entries = [{**ENTRY, "written": "S.*", "regex": True}, ENTRY, {**ENTRY, "written": "SQL Lite"}]
    kept = dictionaries(pron_1=entries, pron_2=[])
    assert [rule.written for rule in kept.rules["pron_1"]] == ["SQL Lite", "SQL", "S.*"]
    assert [rule.label for rule in kept.rules["pron_1"]] == [
        "pron_1.entries.2", "pron_1.entries.1", "pron_1.entries.0",
    ]  # fmt: skip
    assert kept.rules["pron_2"] == ()
    assert kept.rules is kept.rules
    assert "rules" not in kept.written()
    changed = kept.changed("pron_1", None)
    assert list(changed.rules) == ["pron_2"]


def test_a_reading_is_written_with_what_may_fit_alone():
    whole = Reading(True, (Pronunciation("SQL", "sequel", label="a"), Pronunciation("GIF", "jif")))
    step = EditStep(mode=Mode.CLONE, text="It is SQL.", seed=1).read_as(whole)
    assert step.reading is not None
    assert step.reading.reading == Reading(True, (Pronunciation("SQL", "sequel"),))
    assert EditStep.read(step.written()) == step
    assert EditStep(mode=Mode.CLONE, text="Nothing.", seed=1).read_as(whole).reading is None
    assert EditStep(mode=Mode.DENOISE, seed=1).read_as(whole).reading is None
    plain = EditStep(mode=Mode.CLONE, text="5.", seed=1).read_as(Reading(False))
    assert plain.request("", "5.").reading == Reading(False)
    assert EditStep(mode=Mode.CLONE, text="5.", seed=1).request("", "5.").reading == AS_USUAL
