"""A checkpoint's prompts: words, passages, bounds, sampling, and whom a fault is blamed on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import prompting
from pipeline.chain import Script
from pipeline.contracts import Mode, Sampling, SpeechRequest, Warping
from pipeline.errors import CheckpointError, TextError
from pipeline.prompting import CheckpointPrompts, read_warping
from pipeline.splitting import weights
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout
from pipeline.stepaudio.llm.prompt import DIALECT_TAGS, PromptBuilder
from pipeline.text.front_end import FrontEnd
from tests.fakes import voice_prompt

pytestmark = pytest.mark.unit
SAID = "The morning train was late again, but nobody on the platform seemed to mind."
VOICE = voice_prompt(n_groups=40)  # 4.8 s, as long as SAID takes
LONG = " ".join(f"{SAID[:-1]} on day {word}." for word in ("one", "two", "three", "four", "five"))


def checkpoint(directory: Path, **config: Any) -> Path:
    """An LLM directory with the embedded model's tokenizer."""
    model = CheckpointLayout.at(PACKAGED_TINY).text_tokenizer
    (directory / "tokenizer.model").write_bytes(model.read_bytes())
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module")
def embedded() -> CheckpointPrompts:
    return CheckpointPrompts(CheckpointLayout.at(PACKAGED_TINY).editx)


@pytest.fixture
def plain(tmp_path: Path) -> CheckpointPrompts:
    return CheckpointPrompts(checkpoint(tmp_path, longest_passage_s=8.0))


def scripts(
    prompts: CheckpointPrompts, text: str, transcript: str = SAID, **fields: Any
) -> list[Script]:
    request = SpeechRequest(text=text, transcript=transcript, **fields)
    return list(prompts.scripts(request, VOICE))


def human_part(prompts: CheckpointPrompts, script: Script) -> str:
    """What the prompt asks to speak."""
    builder: PromptBuilder = prompts._builder
    ids = script.prompt_ids.tolist()
    ends = [index for index, one in enumerate(ids) if one == builder.vocabulary.stop_id]
    return builder._pieces.decode(ids[ends[0] + 2 : ends[1]]).partition("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        "Chapter one " + "." * 100 + " 12",
        "Hello.\n" + "-" * 200 + "\nGood bye.",
        "No" + "!" * 150,
        "|" + "-" * 40 + "|" + "-" * 40 + "|\n| a | b |",
    ],
)
def test_a_good_answer_to_unspoken_characters_is_not_too_short(
    embedded: CheckpointPrompts, text: str
) -> None:
    (script,) = scripts(embedded, text)
    shortest_answer = round(0.8 / 0.12) * 5  # "No." or "a b" take 0.8 s
    assert script.least_tokens <= shortest_answer


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("$9,999,999.99", "nine million nine hundred ninety-nine thousand nine hundred and so on"),
        ("3/4 + 5/8 & 77%", "three quarters plus five eighths and seventy-seven percent"),
    ],
)
def test_an_answer_longer_than_its_writing_is_not_cut(
    embedded: CheckpointPrompts, text: str, spoken: str
) -> None:
    most_tokens = sum(script.most_tokens for script in scripts(embedded, text))
    assert most_tokens > 5 / 0.12 * 4.8 * 2 * len(spoken) / len(SAID)  # twice the usual length


def test_texts_are_normalised_and_transcripts_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def words(text: str) -> str:
        seen.append(("words", text))
        return text

    def prompt(text: str) -> str:
        seen.append(("prompt", text))
        return text.upper()

    monkeypatch.setattr(prompting, "front_end", lambda _: FrontEnd(words, prompt))
    prompts = CheckpointPrompts(checkpoint(tmp_path, text_front_end="x", longest_passage_s=8.0))
    made = scripts(prompts, LONG)
    assert len(made) > 2
    assert [text for step, text in seen if step == "words"] == [SAID, LONG]
    written = [text for step, text in seen if step == "prompt"]
    assert written[0] == SAID
    assert " ".join(written[1:]) == LONG


def test_the_first_prompt_does_not_wait_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    front_end = FrontEnd(str, lambda text: seen.append(text) or text)
    monkeypatch.setattr(prompting, "front_end", lambda _: front_end)
    prompts = CheckpointPrompts(checkpoint(tmp_path, text_front_end="x", longest_passage_s=8.0))
    steps = prompts.scripts(SpeechRequest(LONG, SAID), VOICE)
    next(steps)
    assert len(seen) == 2  # the transcript and the first passage


def test_a_long_clone_is_cut_into_passages_without_loss(plain: CheckpointPrompts) -> None:
    parts = [human_part(plain, script) for script in scripts(plain, LONG)]
    assert len(parts) > 2
    assert " ".join(parts) == LONG
    assert all(part.endswith(".") for part in parts)


def test_a_short_clone_and_any_edit_is_one_passage(plain: CheckpointPrompts) -> None:
    assert [human_part(plain, script) for script in scripts(plain, SAID)] == [SAID]
    for mode, info in ((Mode.EMOTION, "sad"), (Mode.DENOISE, ""), (Mode.PARALINGUISTIC, "")):
        assert len(scripts(plain, LONG, transcript=LONG, mode=mode, info=info)) == 1


def test_the_real_model_says_more_in_one_go(tmp_path: Path) -> None:
    prompts = CheckpointPrompts(checkpoint(tmp_path))
    assert len(scripts(prompts, LONG)) == 1
    assert len(scripts(prompts, LONG * 4)) > 1


def test_every_passage_has_the_dialect(plain: CheckpointPrompts) -> None:
    made = scripts(plain, f"{DIALECT_TAGS[1]} {LONG}")
    parts = [human_part(plain, script) for script in made]
    assert len(parts) > 2
    assert all(part.startswith(DIALECT_TAGS[1]) for part in parts)


def test_a_passage_that_holds_no_speech_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prompt(text: str) -> str:
        spoken = text.replace("мир", "").strip(" .")
        if not spoken:
            raise TextError("nothing to speak")
        return spoken

    monkeypatch.setattr(prompting, "front_end", lambda _: FrontEnd(str, prompt))
    prompts = CheckpointPrompts(checkpoint(tmp_path, text_front_end="x", longest_passage_s=8.0))
    unspoken = "мир " * 30 + "."
    parts = [
        human_part(prompts, script) for script in scripts(prompts, f"{SAID} {unspoken} {SAID}")
    ]
    assert parts == [SAID.strip("."), SAID.strip(".")]
    with pytest.raises(TextError, match="nothing to speak") as caught:
        scripts(prompts, unspoken * 3)
    assert caught.value.param == "input"


def test_a_fault_far_into_the_text_is_told_before_anything_is_spoken(
    plain: CheckpointPrompts,
) -> None:
    steps = plain.scripts(SpeechRequest(f"{LONG} a <|EOT|> b.", SAID), VOICE)
    with pytest.raises(TextError, match="control symbol"):
        next(steps)


@pytest.mark.parametrize("said", ["...", "\u3002", "--- ---"])
def test_a_transcript_without_speech_is_blamed_itself(
    embedded: CheckpointPrompts, said: str
) -> None:
    with pytest.raises(TextError) as caught:
        scripts(embedded, SAID, transcript=said)
    assert caught.value.param == "prompt_text"
    with pytest.raises(TextError) as caught:
        scripts(embedded, said)
    assert caught.value.param == "input"


def test_an_edit_does_not_mind_a_text_that_it_does_not_say(embedded: CheckpointPrompts) -> None:
    for text in ("...", "anything"):
        (script,) = scripts(embedded, text, mode=Mode.EMOTION, info="sad")
        (other,) = scripts(embedded, "else", mode=Mode.EMOTION, info="sad")
        assert np.array_equal(script.prompt_ids, other.prompt_ids)
        assert script.least_tokens == other.least_tokens


def test_sampling_is_the_checkpoints_unless_the_request_says(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path)
    released = CheckpointPrompts(directory)
    assert scripts(released, SAID)[0].sampling.warping() == Warping(0.7, 1.0, 50)
    config = {"temperature": 0.9, "top_p": 0.8, "do_sample": True}
    (directory / "generation_config.json").write_text(json.dumps(config))
    prompts = CheckpointPrompts(directory)

    def drawn(sampling: Sampling) -> tuple[float | None, float | None, int | None, int]:
        s = scripts(prompts, SAID, sampling=sampling)[0].sampling
        return s.temperature, s.top_p, s.top_k, s.seed

    assert drawn(Sampling(seed=4)) == (0.9, 0.8, 50, 4)
    assert drawn(Sampling(temperature=0.0, top_k=0)) == (0.0, 0.8, 0, 0)
    assert drawn(Sampling(temperature=1.5, top_p=1.0, top_k=7)) == (1.5, 1.0, 7, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"top_k": "many"}', "top_k is 'many'"),
        ('{"top_p": true}', "top_p is True"),
        ('{"temperature": -1}', "temperature is -1, allowed: 0 or more"),
    ],
)
def test_a_generation_config_that_makes_no_sense_is_a_checkpoint_error(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=words):
        read_warping(path)


@pytest.mark.parametrize("value", [0, -1, "long", None, True])
def test_a_passage_must_have_a_length(tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match="longest_passage_s"):
        CheckpointPrompts(checkpoint(tmp_path, longest_passage_s=value))


@pytest.mark.parametrize("text", ["你好" * 2000, "a" * 4000, "word " * 800])
def test_a_long_text_weighs_its_transcript_once(
    embedded: CheckpointPrompts, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A text without sentences is cut between characters, of which there may be thousands."""
    weighed: list[str] = []
    weight = weights.weight_of

    def counting(words: str, units: Mapping[str, float]) -> float:
        weighed.append(words)
        return weight(words, units)

    monkeypatch.setattr(weights, "weight_of", counting)
    next(embedded.scripts(SpeechRequest(text=text, transcript=SAID), VOICE))
    n_once = sum(words.startswith(SAID[:9]) for words in weighed)
    assert n_once == 1
    assert len(weighed) > 100, "pieces were weighed"
