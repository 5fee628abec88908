"""Prompts: refusals, bounds, names. The ids themselves are compared in the parity tier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.contracts import Mode, SpeechRequest, VoicePrompt
from pipeline.edit_values import EDIT_VALUES, PARALINGUISTIC_TAGS
from pipeline.errors import CheckpointError, ConfigError, TextError, UnsupportedError
from pipeline.stepaudio.llm.prompt import (
    PromptBuilder,
    audio_token_string,
    least_audio_tokens,
    max_audio_tokens,
)
from pipeline.text.front_end import front_end

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def builder(shared_dir: Path) -> PromptBuilder:
    return PromptBuilder(shared_dir / "golden" / "tokenizer_tiny.model")


def voice(n_groups: int = 25) -> VoicePrompt:
    rng = np.random.default_rng(0)
    return VoicePrompt(
        vq02=rng.integers(0, 1024, 2 * n_groups + 1).astype(np.int16),
        vq06=rng.integers(0, 4096, 3 * n_groups + 2).astype(np.int16),
        prompt_mel=np.zeros((n_groups * 6, 80), np.float32),
        speaker_embedding=np.zeros(192, np.float32),
        duration_s=n_groups * 0.12,
        fingerprint="f",
    )


def edit(mode: Mode, info: str = "", text: str = "", transcript: str = "so it is") -> SpeechRequest:
    return SpeechRequest(text=text, transcript=transcript, mode=mode, info=info)


def test_special_ids_come_from_the_tokenizer(builder: PromptBuilder) -> None:
    assert builder.vocabulary.audio_base == 5
    assert builder.vocabulary.stop_id == 3
    ids = builder.build(SpeechRequest("Hello.", "A plan."), voice())
    assert ids.dtype == np.int32
    assert ids[:2].tolist() == [1, 4]
    audio = [int(i) for i in ids if 5 <= i < 5125]
    assert "".join(f"<audio_{i - 5}>" for i in audio) == audio_token_string(voice())


def test_every_edit_value_is_written_and_differs(builder: PromptBuilder) -> None:
    prompts = set()
    for mode, values in EDIT_VALUES.items():
        for info in values or ("",):
            prompts.add(builder.build(edit(mode, info, text="so it is [Sigh]"), voice()).tobytes())
    assert len(prompts) == 15 + 33 + 4 + 4


def test_an_edit_without_a_transcript_takes_the_text(builder: PromptBuilder) -> None:
    by_text = builder.build(edit(Mode.EMOTION, "sad", text=" so it is ", transcript=""), voice())
    assert by_text.tolist() == builder.build(edit(Mode.EMOTION, "sad"), voice()).tolist()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (edit(Mode.EMOTION, "whisper"), "allowed: happy, angry, .*remove"),
        (edit(Mode.STYLE, "happy"), "allowed: serious, arrogant"),
        (edit(Mode.SPEED, ""), "allowed: faster, slower, more faster, more slower"),
        (edit(Mode.SPEED, "remove"), "allowed: faster"),
        (edit(Mode.DENOISE, "happy"), "allowed: none"),
        (edit(Mode.CLONE, "happy", text="x"), "allowed: none"),
        (edit(Mode.PARALINGUISTIC, text="so [Sneeze]"), r"unknown tag \[Sneeze\], allowed: \[Br"),
    ],
)
def test_values_outside_the_lists_are_refused(
    builder: PromptBuilder, request_: SpeechRequest, words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        builder.build(request_, voice())


@pytest.mark.parametrize("mode", [Mode.CLONE, Mode.PARALINGUISTIC])
def test_an_empty_text_is_refused(builder: PromptBuilder, mode: Mode) -> None:
    with pytest.raises(TextError, match="empty"):
        builder.build(edit(mode, text=" \n"), voice())


@pytest.mark.parametrize("symbol", ["<audio_7>", "<|EOT|>", "<|BOT|>"])
def test_control_symbols_cannot_be_smuggled_in(builder: PromptBuilder, symbol: str) -> None:
    for request_ in (
        SpeechRequest(f"a {symbol} b", "x"),
        SpeechRequest("a", f"x {symbol}"),
    ):
        with pytest.raises(TextError, match="control symbol"):
            builder.build(request_, voice())


def test_dialect_tags_are_text(builder: PromptBuilder) -> None:
    plain = builder.build(SpeechRequest("hello", "x"), voice())
    tagged = builder.build(SpeechRequest("[Cantonese] hello", "x"), voice())
    assert len(tagged) > len(plain)


def test_a_file_that_is_no_tokenizer_is_a_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"not a model")
    for bad in (path, tmp_path / "absent.model"):
        with pytest.raises(CheckpointError, match="not a sentencepiece model"):
            PromptBuilder(bad)


def test_the_bound_covers_real_speech_and_is_far_from_the_context() -> None:
    # 3 s of reference at 14 letters a second, a usual rate
    transcript = "it is a truth universally acknowledged that"
    text = "a single man in possession of a good fortune must be in want of a wife"
    bound = max_audio_tokens(text, transcript, voice(25))
    expected_tokens = 5 / 0.12 * len(text) / 14
    assert 1.5 * expected_tokens < bound < 5 * expected_tokens
    assert bound % 5 == 0


def test_the_bound_follows_text_script_rate_and_tags() -> None:
    short, long = (max_audio_tokens(text, "hello there", voice()) for text in ("hi", "hi " * 100))
    assert 30 < short < long
    chinese = max_audio_tokens("今天天气很好我们去公园", "", voice())
    assert chinese > max_audio_tokens("abcdefghijk", "", voice())
    assert max_audio_tokens("1234567", "", voice()) > max_audio_tokens("abcdefg", "", voice())
    slow = max_audio_tokens("hello hello", "hello there", voice(100))
    assert slow > max_audio_tokens("hello hello", "hello there", voice(5))
    tagged = max_audio_tokens(f"hi {PARALINGUISTIC_TAGS[1]}", "hi", voice(5))
    assert tagged > max_audio_tokens("hi", "hi", voice(5))
    assert max_audio_tokens("word " * 100_000, "x", voice()) == 8190


def test_an_edit_is_bounded_by_its_input_audio() -> None:
    for text in ("", "same words"):
        assert max_audio_tokens(text, "same words", voice(200)) >= 2 * 200 * 5


def test_what_is_not_spoken_asks_for_nothing() -> None:
    """Rules, leaders and repeated marks are no words, and emoji need not be."""
    least = least_audio_tokens("No, good bye then.", "hello there", voice())
    for unspoken in ("." * 100, "-" * 200, "!" * 150, "|" * 80, "\U0001f44f\U0001f3fd\ufe0f" * 30):
        text = f"No, good {unspoken} bye then."
        assert least_audio_tokens(text, "hello there", voice()) == least
        assert max_audio_tokens(text, "hello there", voice()) >= max_audio_tokens(
            "No, good bye then.", "hello there", voice()
        )
    # Unspoken marks in the transcript make the reference no faster than it is.
    marked = max_audio_tokens("good bye", "hello there" + "." * 100, voice())
    assert marked == max_audio_tokens("good bye", "hello there", voice())


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("$9,999,999.99", "nine million nine hundred ninety-nine thousand nine hundred ninety-nine "
         "dollars and ninety-nine cents"),
        ("77% & 88%", "seventy-seven percent and eighty-eight percent"),
        ("1777", "seventeen seventy-seven"),
        ("\U0001f389" * 9, "party popper " * 9),
        ("1000000000", "a billion"),
    ],
)  # fmt: skip
def test_the_bounds_cover_what_a_text_is_spoken_as(text: str, spoken: str) -> None:
    reference = "it is a truth universally acknowledged that"
    spoken_tokens = 5 / 0.12 * len(spoken) * 3 / len(reference)  # at the reference's own rate
    assert least_audio_tokens(text, reference, voice()) < spoken_tokens
    assert max_audio_tokens(text, reference, voice()) > spoken_tokens


def test_an_edit_says_the_words_of_its_input(builder: PromptBuilder) -> None:
    """Whatever `text` holds: it is not in the prompt."""
    for text in ("x", "so it is", "so it is " * 100):
        request = edit(Mode.EMOTION, "sad", text=text)
        assert builder.most_tokens(request, voice(200)) >= 2 * 200 * 5
        assert builder.least_tokens(request, voice()) == least_audio_tokens(
            "so it is", "so it is", voice()
        )


def test_a_fault_names_the_field_it_is_in(builder: PromptBuilder) -> None:
    def param(request: SpeechRequest) -> str | None:
        with pytest.raises((TextError, UnsupportedError)) as caught:
            builder.build(request, voice())
        return caught.value.param

    for bad in ("<|EOT|>", "<audio_3>", "\ud800"):
        assert param(SpeechRequest(f"a {bad}", "x")) == "input"
        assert param(SpeechRequest("a", f"x {bad}")) == "prompt_text"
    assert param(edit(Mode.EMOTION, "whisper")) == "step_audio.edit_info"
    assert param(edit(Mode.PARALINGUISTIC, text="so [Sneeze]")) == "input"


def test_the_plain_front_end_normalises_space_and_control_characters() -> None:
    plain = front_end(None).words
    assert plain(" a\t\nb\u00a0 c\x00\u200b \ufeff") == "a b c"
    assert plain("👩\u200d🚀 [Sigh] 好。") == "[Sigh] 好。"
    assert plain("\x07\u200b") == ""


def test_an_unknown_front_end_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown text front end 'x', known: none"):
        front_end("x")
