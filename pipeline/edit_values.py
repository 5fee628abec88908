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
DIALECT_TAGS = ("[Sichuanese]", "[Cantonese]", "[Japanese]", "[Korean]")
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
