"""Pronunciations: what is said for words, phrases and expressions, each place changed once."""

from __future__ import annotations

import bisect
import functools
import html
import time
from collections.abc import Iterable, Iterator, Sequence

import regex

from pipeline.errors import MAX_FOUND, InputError
from pipeline.text.options import Pronunciation
from pipeline.text.scripts import language_of
from pipeline.text.signs import protected_spans
from pipeline.text.unicode_forms import composed

MOST_WRITTEN_CHARS, MOST_SAID_CHARS = 200, 500
EXPRESSIONS_S = 0.25  # for all expressions of one text
_LEAST_S = 1e-6  # the library takes 0 for no limit
_GROWTH, _LEAST_CHARS = 4, 10_000  # what a text may grow to
_WIDE = "\u3005-\u3007\u3041-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_LETTER = rf"[^\W{_WIDE}]"  # of scripts that set spaces between words


def checked(entry: Pronunciation) -> Pronunciation:
    """The entry itself. Raises InputError for one that could not be used, saying why."""
    if not composed(entry.written).strip():
        raise InputError("it is empty: say what is written in the text")
    if entry.is_regex:  # with an empty place to fit, so that the template is looked at
        _pattern(entry)
        try:
            regex.compile(f"(?:{entry.written})|").sub(entry.said, "", timeout=EXPRESSIONS_S)
        except (regex.error, IndexError) as error:
            raise InputError(f"{entry.said[:MAX_FOUND]!r} is no template: {error}") from error
        except TimeoutError as error:
            raise InputError("it takes too long to try, even where nothing is written") from error
    return entry


def in_order(entries: Sequence[Pronunciation]) -> tuple[Pronunciation, ...]:
    """Of one place, as they are tried: phrases, the longest first, then expressions."""
    return tuple(
        sorted(
            entries,
            key=lambda entry: (entry.is_regex, 0 if entry.is_regex else -len(entry.written)),
        )
    )


def fitting(text: str, entries: Iterable[Pronunciation]) -> tuple[Pronunciation, ...]:
    """Those that may fit a place of a text as a caller wrote it; any expression may."""
    entries = tuple(entries)
    if not entries:
        return ()
    said = html.unescape(composed(text)).casefold()
    return tuple(
        entry
        for entry in entries
        if entry.is_regex or all(word in said for word in _folded_words_of(entry.written))
    )


def pronounced(text: str, entries: Sequence[Pronunciation]) -> str:
    """Text with what is said in place of what is written; tags and pauses stay.

    No place is changed twice, by any entry. Raises InputError: expressions take too long, or the
    text grows beyond measure.
    """
    language = language_of(text)
    taken = _Taken(protected_spans(text))
    deadline_s = time.monotonic() + EXPRESSIONS_S
    for entry in entries:
        if entry.language in (None, language):
            for start, end, said in _places(text, entry, deadline_s):
                taken.add(start, end, said)
    most = max(_GROWTH * len(text), _LEAST_CHARS)
    if taken.growth + len(text) > most:
        raise InputError(f"with its pronunciations the text grows beyond {most} characters")
    return taken.applied_to(text)


class _Taken:
    """Places of a text that are changed, or must not be, in their order."""

    def __init__(self, kept: Sequence[tuple[int, int]]) -> None:
        self._spans: list[tuple[int, int, str | None]] = [(*span, None) for span in kept]
        self.growth = 0

    def add(self, start: int, end: int, said: str) -> None:
        """What is said from `start` to `end`, unless a part of it is taken."""
        index = bisect.bisect(self._spans, start, key=lambda span: span[0])
        is_free = not index or self._spans[index - 1][1] <= start
        if is_free and (index == len(self._spans) or self._spans[index][0] >= end):
            self._spans.insert(index, (start, end, said))
            self.growth += len(said)

    def applied_to(self, text: str) -> str:
        parts, at = list[str](), 0
        for start, end, said in self._spans:
            parts += [text[at:start], text[start:end] if said is None else said]
            at = end
        return "".join((*parts, text[at:]))


def _places(text: str, entry: Pronunciation, deadline_s: float) -> Iterator[tuple[int, int, str]]:
    """Where an entry fits, and what is said there."""
    pattern = _pattern(entry)
    if not entry.is_regex:
        for found in pattern.finditer(text):
            yield found.start(), found.end(), entry.said
        return
    left_s = max(deadline_s - time.monotonic(), _LEAST_S)
    try:
        for found in pattern.finditer(text, timeout=left_s, concurrent=True):
            if found.end() > found.start():
                yield found.start(), found.end(), found.expand(entry.said)
    except (regex.error, IndexError) as error:
        raise InputError(f"{entry.said[:MAX_FOUND]!r} is no template: {error}") from error
    except TimeoutError as error:
        label = entry.label or repr(entry.written[:MAX_FOUND])
        raise InputError(
            f"the regular expressions of the pronunciations take too long for this text, at {label}"
        ) from error


def _words_of(written: str) -> list[str]:
    """As they stand in a text, which is composed before pronunciations are put in."""
    return composed(written).split()


@functools.lru_cache(maxsize=65_536)  # of many tenants: composing takes tens of µs a word
def _folded_words_of(written: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _words_of(written))


@functools.lru_cache(maxsize=4096)
def _pattern(entry: Pronunciation) -> regex.Pattern[str]:
    flags = 0 if entry.is_cased else regex.IGNORECASE
    if entry.is_regex:
        try:
            return regex.compile(entry.written, flags)
        except (regex.error, OverflowError, RecursionError) as error:
            raise InputError(f"it is no regular expression: {error}") from error
    words = _words_of(entry.written)
    phrase = r"\s+".join(map(regex.escape, words))
    before = rf"(?<!{_LETTER})" if regex.match(_LETTER, words[0]) else ""
    after = rf"(?!{_LETTER})" if regex.match(_LETTER, words[-1][-1]) else ""
    return regex.compile(before + phrase + after, flags)
