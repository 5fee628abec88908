"""The LLM's prompt: template, edit instructions, audio tokens, special ids."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import sentencepiece

from pipeline.contracts import GROUP_S, Int32Array, Mode, SpeechRequest, VoicePrompt
from pipeline.edit_values import DIALECT_TAGS, EDIT_VALUES, PARALINGUISTIC_TAGS, SAME_WORDS
from pipeline.errors import CheckpointError, TextError, UnsupportedError
from pipeline.splitting.weights import LEAST_UNITS, MOST_UNITS, TAG, s_per_unit, weight_of
from pipeline.stepaudio.llm.sampling import AudioVocabulary
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS, interleave
from pipeline.wording import TEXT_PARAM, TRANSCRIPT_PARAM

SPEAKER_DIGITS = 16  # hex digits of the clip's digest in a speaker's name
INFO_PARAM = "step_audio.edit_info"  # the field of the HTTP API, named in errors

_CLONE_SYSTEM = (
    "Generate audio with the following timbre, prosody and speaking style\n\n[speaker_start]\n"
    "speaker name: {speaker}\nspeaker prompt text: \n{transcript}\n"
    "speaker audio tokens: \n{audio}\n[speaker_end]\n"
)
_EDIT_SYSTEM = (
    "As a highly skilled audio editing and tuning specialist, you excel in interpreting user"
    " instructions and applying precise adjustments to meet their needs. Your expertise spans a"
    " wide range of enhancement capabilities, including but not limited to:\n"
    "# Emotional Enhancement\n# Speaking Style Transfer\n# Non-linguistic Adjustments\n"
    "# Audio Tuning & Editing\n"
    "Note: You will receive instructions in natural language and are expected to accurately"
    " interpret and execute the most suitable audio edits and enhancements.\n"
)
_MAKE = (
    "Make the following audio more {info}. The text corresponding to the audio is: {transcript}\n"
)
_CLEAN = (
    "Remove any {what} from the given audio while preserving the voice content clearly. Ensure"
    " that the speech quality remains intact with minimal distortion, and eliminate all {rest}"
    " from the audio.\n"
)
_INSTRUCTIONS: dict[Mode, str] = {
    Mode.EMOTION: _MAKE,
    Mode.SPEED: _MAKE,
    Mode.STYLE: _MAKE.replace("{info}", "{info} style"),
    Mode.DENOISE: _CLEAN.format(what="noise", rest="noise"),
    Mode.VAD: _CLEAN.format(what="silent portions", rest="silence"),
    Mode.PARALINGUISTIC: (
        "Add some non-verbal sounds to make the audio more natural, the new text is : {text}\n"
        "  The text corresponding to the audio is: {transcript}\n"
    ),
}
_REMOVALS: dict[Mode, str] = {
    mode: f"Remove any {what} in the following audio and the reference text is: {{transcript}}\n"
    for mode, what in ((Mode.EMOTION, "emotion"), (Mode.STYLE, "speaking styles"))
}
_REMOVE = "remove"
_CONTROL = re.compile(r"<audio_\d+>|<\|\w+\|>")  # would be encoded as prompt structure, not as text
_SURROGATE = re.compile("[\ud800-\udfff]")  # no UTF-8 has them

# Bounds of `max_audio_tokens`.
_HASTE = 0.25  # of the expected length: nobody speaks four times as fast
_GENEROSITY = 2.5  # pauses, slow styles, drawn-out words
_SLACK_S = 4.0  # so that a text of one word is not cut off
_TAG_S = 3.0  # a laugh, a sigh
_EDIT_FACTOR = 2.0  # "more slower" against the input audio
_CEILING_TOKENS = 8190


def speaker_name(clip_digest: str) -> str:
    """The speaker's name in a clone prompt, as the released code forms it."""
    return f"clone_{clip_digest[:SPEAKER_DIGITS]}"


class PromptBuilder:
    """Writes prompts with a checkpoint's own tokenizer."""

    def __init__(self, tokenizer_model: Path) -> None:
        """Raises CheckpointError: no sentencepiece model, or without a piece that prompts need."""
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_model))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{tokenizer_model}: not a sentencepiece model: {error}"
            ) from error
        self._path = tokenizer_model
        self._bos, self._end, self._begin = (self._id(p) for p in ("<s>", "<|EOT|>", "<|BOT|>"))
        first, last = self._id("<audio_0>"), self._id(f"<audio_{AUDIO_TOKENS - 1}>")
        if last - first != AUDIO_TOKENS - 1:
            raise CheckpointError(
                f"{tokenizer_model}: the {AUDIO_TOKENS} audio tokens are not contiguous"
            )
        self.vocabulary = AudioVocabulary(audio_base=first, stop_id=self._end)

    def build(self, request: SpeechRequest, voice: VoicePrompt) -> Int32Array:
        """Prompt ids, int32 (n,), for a clone or any edit.

        In an edit other than paralinguistic the text of the input audio is the transcript, or
        `text` where that is empty. Raises as `check`.
        """
        self.check(request)
        audio = audio_token_string(voice)
        if request.mode is Mode.CLONE:
            system = _CLONE_SYSTEM.format(
                speaker=speaker_name(voice.clip_digest),
                transcript=request.transcript,
                audio=audio,
            )
            # Behind "\n", so that the text gets no leading word marker.
            human = self._encode("\n" + request.text)[len(self._encode("\n")) :]
        else:
            system = _EDIT_SYSTEM
            human = self._encode(f"{_instruction(request)}\n{audio}\n")
        ids = [self._bos, self._begin, *self._encode(f"system\n{system}"), self._end]
        ids += [self._begin, *self._encode("human\n"), *human, self._end]
        ids += [self._begin, *self._encode("assistant\n")]
        return np.array(ids, np.int32)

    def check(self, request: SpeechRequest) -> None:
        """Check that a prompt can be written from these texts.

        Raises UnsupportedError (edit value or tag outside its list) and TextError (no text, control
        symbols, half characters), with the caller's field.
        """
        _require_valid(request)

    def most_tokens(self, request: SpeechRequest, voice: VoicePrompt) -> int:
        """Upper bound of the request's audio tokens; see max_audio_tokens."""
        is_edit = request.mode is not Mode.CLONE
        return max_audio_tokens(said_in(request), request.transcript, voice, is_edit=is_edit)

    def least_tokens(self, request: SpeechRequest, voice: VoicePrompt) -> int:
        """Lower bound of the request's audio tokens; see least_audio_tokens."""
        return least_audio_tokens(said_in(request), request.transcript, voice)

    def _encode(self, text: str) -> list[int]:
        return self._pieces.encode(text)

    def _id(self, piece: str) -> int:
        index = self._pieces.piece_to_id(piece)
        if index == self._pieces.unk_id():
            raise CheckpointError(f"{self._path}: the tokenizer has no piece {piece}")
        return index


def audio_token_string(voice: VoicePrompt) -> str:
    """A voice's whole groups as text: `<audio_c>` pieces, no separators."""
    return "".join(f"<audio_{token}>" for token in interleave(voice.vq02, voice.vq06).tolist())


def said_in(request: SpeechRequest) -> str:
    """The words to speak: the text, or in edits that keep the words, those of the input audio."""
    if request.mode not in SAME_WORDS:
        return request.text
    return request.transcript or request.text


def max_audio_tokens(
    text: str, transcript: str, voice: VoicePrompt, *, is_edit: bool = False
) -> int:
    """Upper bound of an answer's audio tokens, for answers without a stop.

    Whole groups. Texts are as they will be spoken, weighed in letters: a CJK character 3, digits
    and symbols the most they may take, a paralinguistic tag 3 s on top. The speaking rate is the
    reference's own, its seconds over its transcript's weight, held within 0.5 to 2.5 times 0.08 s a
    letter. The bound is 2.5 times the expected length plus 4 s, at least twice the reference in an
    edit or where the text is empty or equals the transcript, at most 8190 tokens.
    """
    spoken_s = voice.n_groups * GROUP_S
    rate = s_per_unit(transcript, voice, LEAST_UNITS)
    bound_s = (
        weight_of(text, MOST_UNITS) * rate * _GENEROSITY + len(_tags(text)) * _TAG_S + _SLACK_S
    )
    if is_edit or not text.strip() or text.strip() == transcript.strip():
        bound_s = max(bound_s, spoken_s * _EDIT_FACTOR + _SLACK_S)
    return min(int(bound_s / GROUP_S) * GROUP_TOKENS, _CEILING_TOKENS)


def least_audio_tokens(text: str, transcript: str, voice: VoicePrompt) -> int:
    """Audio tokens below which an answer cannot contain its text: it stopped too soon.

    A quarter of the expected length (see max_audio_tokens), in whole groups, at least one. Optional
    words do not count.
    """
    least_s = weight_of(text, LEAST_UNITS) * s_per_unit(transcript, voice, MOST_UNITS) * _HASTE
    return max(int(least_s / GROUP_S), 1) * GROUP_TOKENS


def _tags(text: str) -> list[str]:
    return [tag for tag in TAG.findall(text) if tag in PARALINGUISTIC_TAGS]


def _instruction(request: SpeechRequest) -> str:
    transcript = (request.transcript or request.text).strip()
    is_removal = request.info == _REMOVE
    template = (_REMOVALS if is_removal else _INSTRUCTIONS)[request.mode]
    return template.format(info=request.info, text=request.text, transcript=transcript)


def _require_valid(request: SpeechRequest) -> None:
    values = EDIT_VALUES[request.mode]
    if request.info not in (values or ("",)):
        allowed = ", ".join(values) or "none"
        raise UnsupportedError(
            f"{request.mode} has no value {request.info!r}, allowed: {allowed}", param=INFO_PARAM
        )
    if request.mode not in SAME_WORDS and not request.text.strip():
        raise TextError("the text is empty", param=TEXT_PARAM)
    for text, name, param in (
        (request.text, "text", TEXT_PARAM),
        (request.transcript, "transcript", TRANSCRIPT_PARAM),
    ):
        if found := _CONTROL.search(text):
            raise TextError(f"the {name} holds the control symbol {found.group()}", param=param)
        if found := _SURROGATE.search(text):
            half = f"U+{ord(found.group()):04X}"
            raise TextError(f"the {name} holds half a character ({half})", param=param)
    known = PARALINGUISTIC_TAGS + DIALECT_TAGS
    unknown = [tag for tag in TAG.findall(request.text) if tag not in known]
    if request.mode is Mode.PARALINGUISTIC and unknown:
        raise UnsupportedError(
            f"unknown tag {unknown[0]}, allowed: {', '.join(PARALINGUISTIC_TAGS)}", param=TEXT_PARAM
        )
