"""The longest stretch where what was heard is not what was to be said.

A mean error hides one lost sentence in a long answer, and is full of a recogniser's own small
slips; a run of words that all differ is neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher

SURE_WORDS = 2  # equal words in a row that end a run: a single one may be chance
DIVERGENT_WORDS = 4  # a recogniser's own slips are shorter
# A word; a character of a script that is written without spaces is one by itself.
_WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    "|[^\\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+(?:'[^\\W_]+)*"
)


def words_of(text: str) -> list[str]:
    """The words of a text, folded, without marks; of Chinese and Japanese the characters."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return [word.casefold() for word in _WORD.findall(plain)]


def longest_divergence(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words in the longest run that was dropped, added or replaced; 0 where all are equal.

    said, heard: words in order, as `words_of` has them. Of a replaced run the longer side counts.
    Fewer than SURE_WORDS equal words within a run belong to it.
    """
    longest = n_said = n_heard = 0
    blocks = SequenceMatcher(None, said, heard, autojunk=False).get_opcodes()
    for kind, said_from, said_to, heard_from, heard_to in blocks:
        is_border = said_from == 0 or said_to == len(said)
        if kind == "equal" and (said_to - said_from >= SURE_WORDS or is_border):
            n_said = n_heard = 0
            continue
        n_said += said_to - said_from
        n_heard += heard_to - heard_from
        if kind != "equal":
            longest = max(longest, n_said, n_heard)
    return longest


def is_divergent(said: str, heard: str) -> bool:
    """Whether a listener heard so much else that words were lost, added or made up."""
    return longest_divergence(words_of(said), words_of(heard)) >= DIVERGENT_WORDS
