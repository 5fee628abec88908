"""How a text is to be read, beyond the text itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """What to say for something written."""

    written: str
    """A word or phrase, or a regular expression."""
    said: str
    """In its place; of a regular expression a template, with `\\1` and `\\g<name>`."""
    is_regex: bool = False
    is_cased: bool = False
    """Upper and lower case are different."""
    language: str | None = None
    """`en`, `zh`, `ja` or `ko`: in texts of this language alone; None in all."""
    label: str = field(default="", compare=False, repr=False)
    """How refusals name it: a field of the request, or where it is kept."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How one text is to be read."""

    is_normalised: bool = True
    """Numbers, dates, sums and their like become words; otherwise they stay as written."""
    pronunciations: tuple[Pronunciation, ...] = ()
    """Of two that fit the same place the earlier one counts."""


AS_USUAL = Reading()
