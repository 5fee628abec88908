"""The values of every edit mode, and the tags that a text may hold.

Lists alone, so that the HTTP surface and the prompt can import them without any library.
"""

from __future__ import annotations

from pipeline.contracts import Mode

EMOTIONS = (
    "happy", "angry", "sad", "humour", "confusion", "disgusted", "empathy", "embarrass", "fear",
    "surprised", "excited", "depressed", "coldness", "admiration", "remove",
)  # fmt: skip
STYLES = (
    "serious", "arrogant", "child", "older", "girl", "pure", "sister", "sweet", "ethereal",
    "whisper", "gentle", "recite", "generous", "act_coy", "warm", "shy", "comfort", "authority",
    "chat", "radio", "soulful", "story", "vivid", "program", "news", "advertising", "roar",
    "murmur", "shout", "deeply", "loudly", "exaggerated", "remove",
)  # fmt: skip
SPEEDS = ("faster", "slower", "more faster", "more slower")
PARALINGUISTIC_TAGS = (
    "[Breathing]", "[Laughter]", "[Surprise-oh]", "[Confirmation-en]", "[Uhm]", "[Surprise-ah]",
    "[Surprise-wa]", "[Sigh]", "[Question-ei]", "[Dissatisfaction-hnn]",
)  # fmt: skip
LANGUAGES = {
    "Mandarin": "", "English": "", "Sichuanese": "[Sichuanese]", "Cantonese": "[Cantonese]",
    "Japanese": "[Japanese]", "Korean": "[Korean]",
}  # fmt: skip
"""What the released model speaks, and the tag in front of a text that asks for it; "": none."""
DIALECT_TAGS = tuple(tag for tag in LANGUAGES.values() if tag)
EDIT_VALUES: dict[Mode, tuple[str, ...]] = {
    Mode.CLONE: (),
    Mode.EMOTION: EMOTIONS,
    Mode.STYLE: STYLES,
    Mode.SPEED: SPEEDS,
    Mode.DENOISE: (),
    Mode.VAD: (),
    Mode.PARALINGUISTIC: (),
}  # allowed values of `SpeechRequest.info`; empty: none
SAME_WORDS = frozenset(Mode) - {Mode.CLONE, Mode.PARALINGUISTIC}  # edits that change no words
WORDLESS = frozenset({Mode.DENOISE, Mode.VAD})  # edits whose prompt holds no words
REPEATABLE = SAME_WORDS  # edits that can be applied to their own result: once more is stronger
MAX_PASSES = 4
