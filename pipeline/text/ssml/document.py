"""The subset of SSML that is served: `<speak>`, `<p>`, `<s>`, `<break>`, `<sub>`, `<say-as>`."""

from __future__ import annotations

import html
import re
from xml.parsers import expat

from pipeline.errors import MAX_FOUND, InputError, UnsupportedError
from pipeline.text.pauses import STRENGTHS_MS, pause_of, without_pauses
from pipeline.text.scripts import language_of
from pipeline.text.ssml.said_as import said_as
from pipeline.text.tags import closed
from pipeline.text.unicode_forms import composed

ELEMENTS = ("speak", "p", "s", "break", "sub", "say-as")
_BEGINS = re.compile(
    r"\ufeff?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*(?=<speak[\s>/])", re.DOTALL
)
_ENTITY = re.compile(r"&(?:(?P<xml>amp|lt|gt|quot|apos);|(?P<name>#?\w{1,32});)?")
_TAG = re.compile(r"<[^<>]*>")


def is_ssml(text: str) -> bool:
    """Whether a text is to be taken for SSML: it begins with `<speak`."""
    return _BEGINS.match(text) is not None


def without_ssml(text: str) -> str:
    """SSML → text, one paragraph a line, pauses as `[pause:…ms]`; any other text as it is.

    Characters that SSML escapes stay escaped. Raises InputError: not well formed, or an element or
    a value that is not served, with those that are.
    """
    found = _BEGINS.match(text)
    if found is None:
        return text
    return _Reader(_escaped(composed(text[found.end() :]))).text()


class _Reader:
    """One pass over a document: the text that it says, so far."""

    def __init__(self, document: str) -> None:
        self._document = document
        self._language = language_of(html.unescape(_TAG.sub(" ", document)))
        self._blocks: list[str] = []
        self._block = ""
        self._open: list[dict[str, str]] = []
        self._inner: str | None = None  # of `sub` or `say-as`

    def text(self) -> str:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        try:
            parser.Parse(self._document, True)
        except expat.ExpatError as error:
            raise InputError(
                f"the SSML is not well formed: {expat.ErrorString(error.code)} in line "
                f"{error.lineno}, column {error.offset + 1}"
            ) from error
        self._end_block()
        return "\n".join(self._blocks)

    def _begin(self, name: str, given: dict[str, str]) -> None:
        if name not in ELEMENTS:
            allowed = ", ".join(f"<{one}>" for one in ELEMENTS)
            raise UnsupportedError(f"SSML <{name[:MAX_FOUND]}> is not served; allowed: {allowed}")
        if self._inner is not None and name != "break":
            raise UnsupportedError(f"SSML <{name}> cannot stand inside <sub> or <say-as>")
        if name == "break":
            self._pause(given)
        elif name == "sub" and "alias" not in given:
            raise UnsupportedError("SSML <sub> needs an alias: what is said in place of its text")
        elif name in {"sub", "say-as"}:
            self._inner = ""
        else:
            self._end_block()
        self._open.append(given)

    def _end(self, name: str) -> None:
        given = self._open.pop()
        if name == "sub":
            self._block += _kept(given["alias"])
        elif name == "say-as":
            kind = given.get("interpret-as", "")
            how = given.get("format") or given.get("detail") or ""
            self._block += _kept(said_as(self._inner or "", kind, how, self._language))
        elif name != "break":
            self._end_block()
            return
        if name != "break":
            self._inner = None

    def _pause(self, given: dict[str, str]) -> None:
        written = f"<break time={given.get('time', '')!r}>"
        strength = given.get("strength")
        if strength is not None and strength.strip().lower() not in STRENGTHS_MS:
            raise UnsupportedError(
                f"<break strength={strength[:MAX_FOUND]!r}> is not known; allowed: "
                f"{', '.join(STRENGTHS_MS)}"
            )
        if self._inner is None:
            self._block += pause_of(strength, given.get("time"), written)

    def _add(self, text: str) -> None:
        if self._inner is None:
            self._block += _kept(text)
        else:
            self._inner += text

    def _end_block(self) -> None:
        block = " ".join(self._block.split())
        if block:  # a pause by itself is no sentence
            self._blocks.append(closed(block) if without_pauses(block) else block)
        self._block = ""


def _escaped(document: str) -> str:
    """Text whose lone "&" and whose names of HTML's are characters: XML knows five names."""
    return _ENTITY.sub(_entity, document)


def _entity(found: re.Match[str]) -> str:
    if found["xml"]:
        return found[0]
    if found["name"] is None:
        return "&amp;"
    said = html.unescape(found[0])
    return html.escape(said, quote=False)


def _kept(text: str) -> str:
    """Characters that later steps would take for markup, escaped."""
    return html.escape(text, quote=False)
