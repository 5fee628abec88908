"""Where sentences end, in English, Chinese, Japanese and Korean.

Our own rules: on our list of hard cases (tests/unit/pipeline/text/data) they are right where
BlingFire and pySBD are wrong about quotes, initials, "U.S." and East Asian marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from pipeline.text.unicode_forms import EAST_ASIAN

_CLOSERS = "\"'”’)]»」』｣）】》〉*_"
_CLOSING = re.escape(_CLOSERS)
_WIDE = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_END = re.compile(
    rf"[.!?…।॥؟۔]+[{_CLOSING}]*\s+"
    rf"|(?:[!?]*[。！？｡]+[!?]*|(?<=[{_WIDE}])[!?]+(?=[{_CLOSING}]*[“「『｢{_WIDE}]))[{_CLOSING}]*\s*"
    rf"|(?<=[{_WIDE}])\.(?=[{_WIDE}])"
    r"|\n\s*"
)
_NEAR = 80  # characters before a full stop that say what it is
_WIDE_MARKS = frozenset("。！？｡")
_NEXT = re.compile(r"[\s\"'“”‘’(\[«「『（【《*_#—–-]*(?P<word>\w[\w’'-]*)?")
_OPENED = re.compile(r"\s*[“「『｢\"(（《【]")
_LAST_WORD = re.compile(
    r"(?:^|[\s(\[\"'“‘«—–/-]|(?<=[\u3041-\ud7a3]))(?P<word>[^\W\d_](?:[\w.&-]*\w)?)\.$"
)
_NUMBER = re.compile(r"\s*[(\[]?(?:\d{1,3}|[A-Za-z]|[ivx]{1,4})\.")  # of a list's item
_ITEM = re.compile(rf"[{_WIDE}][ ]\d{{1,2}}\.$")
_TITLES = frozenset((
    "Adm", "Brig", "Capt", "Cmdr", "Col", "Cpl", "Det", "Dr", "Drs", "Fr", "Ft", "Gen", "Gov",
    "Hon",
    "Insp", "Lt", "Maj", "Messrs", "Mlle", "Mme", "Mr", "Mrs", "Ms", "Mt", "Msgr", "Pres", "Prof",
    "Rep", "Rev", "Sen", "Sgt", "Supt", "Mx",
))  # fmt: skip
_CONNECTIVES = frozenset((
    "approx", "cf", "eg", "ie", "vs", "e.g", "i.e", "viz", "incl", "esp", "aka", "a.k.a", "resp",
    "temp", "avg", "dept", "govt", "c", "ca", "b", "d", "fl",
))  # fmt: skip
_BEFORE_NUMBERS = frozenset((
    "art", "ch", "fig", "figs", "no", "nos", "nr", "p", "pp", "vol", "vols", "sec", "par", "eq",
    "ext",
    "tel", "pt", "op", "est", "min", "max", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep",
    "sept", "oct", "nov", "dec", "mon", "tue", "tues", "wed", "thu", "thur", "thurs", "fri", "sat",
    "sun", "apt", "rm", "ste", "hwy", "rte", "ver", "v", "cap", "bk", "pl",
))  # fmt: skip
# That may end a sentence: they do before a word that begins one.
_EITHER = frozenset((
    "inc", "ltd", "co", "corp", "jr", "sr", "st", "ave", "blvd", "rd", "ln", "bros", "al", "esq",
    "llc", "plc", "assn", "hrs", "lbs", "oz", "ft", "in", "yr", "mo", "ed", "eds", "univ",
))  # fmt: skip
_LOWER_EITHER = frozenset(("al", "ft", "hrs", "lbs", "oz"))
_STARTERS = frozenset((
    "the", "a", "an", "he", "she", "it", "i", "we", "you", "they", "this", "that", "these", "those",
    "there", "here", "then", "but", "and", "or", "so", "if", "when", "while", "after", "before",
    "in",
    "on", "at", "for", "from", "by", "to", "with", "my", "his", "her", "our", "your", "their",
    "its",
    "what", "who", "where", "why", "how", "which", "do", "does", "did", "is", "are", "was", "were",
    "can", "could", "will", "would", "should", "please", "let", "no", "yes", "not", "as",
    "although",
    "however", "meanwhile", "now", "one", "some", "many", "most", "all", "both", "each", "every",
    "i'm", "it's", "he's", "she's", "that's", "there's", "don't", "i’m", "it’s", "he’s", "she’s",
    "i've", "i’ve", "i'll", "we're", "you're", "they're", "since", "because", "once", "today",
    "yesterday", "tomorrow", "also", "finally", "instead", "still", "another", "nobody", "everyone",
    "call", "go", "see", "come", "take", "thanks", "thank",
))  # fmt: skip
_TIMES = frozenset(("a.m", "p.m", "am", "pm"))
_TIME_GOES_ON = re.compile(
    r"(?:[A-Z]{1,3}T|UTC|GMT|Eastern|Pacific|Central|Mountain|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
    r"|January|February|March|April|May|June|July|August|September|October|November|December)$"
)
_ACRONYM = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]|(?:[A-Z][a-z]{0,2}\.)+[A-Z][a-z]?")
_INITIAL_BEFORE = re.compile(
    r"(?:^|[\s(\[\"'“‘.])(?P<word>[A-Za-z][\w’'-]*)[.,]?\s*(?:[A-Z]\.[\s-]?)*$"
)
_LABELS = frozenset((
    "section", "part", "appendix", "plan", "group", "type", "figure", "table", "class", "grade",
    "option", "exhibit", "team", "hepatitis", "vitamin", "point", "step", "building", "block",
    "unit",
    "gate", "exit", "model",
))  # fmt: skip
_SAID = re.compile(
    r"\s*(?:[A-Z][\w’'-]*(?:\s[A-Z][\w’'-]*)?|I|[Hh]e|[Ss]he|[Tt]hey|[Ww]e)\s(?:then\s|had\s)?"
    r"(?:said|says|asked|asks|replied|answered|whispered|shouted|cried|yelled|muttered|murmured|"
    r"added|called|exclaimed|continued|insisted|told|thought|wrote|laughed|sighed|snapped|demanded|"
    r"screamed|repeated|explained|agreed|declared|announced|wondered|began|went on)\b"
)
_SAID_IN_CHINESE = re.compile(
    r"\s*(?:[^\W\d_]{1,4}?)?[^，。！？“”；\s]{0,6}?(?:说|道|问|喊|叫|答|嚷|吼|想|念叨|嘀咕|喃喃|回应|表示|补充|解释|感叹|惊呼|嘟囔|写道)"
    r"(?:着|了|话|起来)?[，。：！？,:]"
)
_SAID_IN_JAPANESE = re.compile(
    r"\s*(?:と(?!ころ|き|ても|にかく|りあえず|もだち|なり)|って|という|とか|なんて|などと|だと|っていう)"
)
# Behind a mark without quotes: many a sentence begins with と as well, as とうとう and とはいえ do.
_THOUGHT_IN_JAPANESE = re.compile(
    r"\s*(?:と(?!同時|共に|[言い]っても|言えば|言うのも|言うより)"
    r"(?:$|[\u4e00-\u9fff\u30a0-\u30ff、]|いった|いう(?!のも|わけ|こと)|つぶや|ささや|さけ|おも)"
    r"|って|などと)"
)
_PARTICLE = re.compile(r"(?:[はがをのにへも]|から(?!揚)|まで)(?![、,])[\u4e00-\u9fff\u30a0-\u30ff]")
_SAID_IN_KOREAN = re.compile(
    r"(?:이?라(?:고|는|며|면서)|하(?:고|며|는|면서|더니|자)|고)[는도서만]?(?=[\s,]|$)"
)
_HANGUL = re.compile("[\uac00-\ud7a3]")
_DATED = re.compile(r"(?:^|\s)\d{1,4}\.$")

_DAY = re.compile(r"\d{4}\.\s*\d{1,2}\.\s*\d{1,2}\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, white space at the ends gone."""
    ends = [0, *sentence_ends(text), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(ends))
    return [part for part in parts if part]


def sentence_ends(text: str) -> Iterator[int]:
    """Where sentences end, behind their mark and the white space that follows."""
    start = 0
    is_korean = _HANGUL.search(text) is not None
    for mark in _END.finditer(text):
        if mark.end() < len(text) and _ends(text, start, mark, is_korean=is_korean):
            start = mark.end()
            yield start


def _ends(text: str, start: int, mark: re.Match[str], *, is_korean: bool) -> bool:
    """Whether a mark ends the sentence that begins at `start`."""
    signs, after = mark.group().rstrip(), mark.end()
    is_item = _ITEM.search(text, max(start, mark.start() - _NEAR), mark.start() + 1)
    if is_item or not signs:  # without any it is a line's end
        return not is_item and not text[after].islower()
    if _is_wide(signs) or (mark.start() and EAST_ASIAN.match(text[mark.start() - 1])):
        return _ends_wide(text, signs, after, is_korean=is_korean)
    following = _NEXT.match(text, after)
    word = (following["word"] or "") if following else ""
    is_quoted = signs[-1] in "\"'”’»"
    if word[:1].islower() or (is_quoted and _SAID.match(text, after)):
        return False
    if signs.startswith(("…", "..")):
        return is_quoted or (word[:1].isupper() and re.split("['’]", word)[0] != "I")
    if signs.rstrip(_CLOSERS) != ".":
        return True
    sentence = text[max(start, mark.start() - _NEAR) : mark.start() + 1]
    return _ends_at_point(sentence, word, is_korean=is_korean)


def _is_wide(signs: str) -> bool:
    return any(sign in _WIDE_MARKS for sign in signs)


def _ends_wide(text: str, signs: str, after: int, *, is_korean: bool) -> bool:
    """The same of a mark of East Asian text, whose words have no capitals."""
    is_quoted = signs[-1] in "\"'”’」』｣》"
    if signs.startswith(("…", "..")) and not is_quoted:
        return False
    if is_korean and signs[0] in ".!?":
        is_spaced = text[after - 1].isspace()  # a particle is not
        goes_on = _SAID_IN_KOREAN if is_spaced else _HANGUL
        if is_quoted and goes_on.match(text, after):
            return False
        return is_spaced or signs != "." or not text[after].isascii()
    if _OPENED.match(text, after):
        return True
    goes_on = _SAID_IN_JAPANESE if is_quoted else _THOUGHT_IN_JAPANESE
    if goes_on.match(text, after) or _PARTICLE.match(text, after):
        return False
    return not (is_quoted and _SAID_IN_CHINESE.match(text, after))


def _ends_at_point(sentence: str, following: str, *, is_korean: bool) -> bool:
    """Whether the full stop behind `sentence` ends it, and not just an abbreviation."""
    is_date = _DATED.search(sentence) and (following[:1].isdecimal() or _DAY.search(sentence))
    is_inner = _NUMBER.fullmatch(sentence) or (is_korean and is_date)
    found = _LAST_WORD.search(sentence)
    if is_inner or found is None:
        return not is_inner
    word, lower = found["word"], found["word"].lower()
    if _never_ends(word, following):
        return False
    if lower in _TIMES:
        return _TIME_GOES_ON.match(following) is None
    if _may_end(word):
        return following.lower() in _STARTERS
    if len(word) == 1 and word.isupper() and word != "I":
        return not _is_initial(sentence[: found.start("word")], following)
    return True


def _never_ends(word: str, following: str) -> bool:
    """Whether an abbreviation goes on: "Dr.", "e.g.", and "No." before a number."""
    lower = word.lower()
    is_connective = lower in _CONNECTIVES and (len(word) > 1 or word == lower)
    is_label = lower in _BEFORE_NUMBERS and following[:1].isdecimal()
    return word in _TITLES or is_connective or is_label


def _may_end(word: str) -> bool:
    """Whether what follows decides: "Inc.", "U.S."."""
    lower = word.lower()
    is_either = lower in _EITHER and (word[0].isupper() or lower in _LOWER_EITHER)
    return is_either or _ACRONYM.fullmatch(word) is not None


def _is_initial(before: str, following: str) -> bool:
    """Whether a capital with a full stop is a part of a name: "J. R. R. Tolkien", "plan B" not."""
    found = _INITIAL_BEFORE.search(before)
    if found is None:
        return True
    word = found["word"]
    if word.lower() in _LABELS:
        return False
    if not word[0].isupper():
        return following.lower() not in _STARTERS and before.rstrip()[-2:-1].isupper()
    return following.lower() not in _STARTERS or word in _TITLES
