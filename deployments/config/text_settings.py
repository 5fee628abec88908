"""The section of the settings about texts, and a pronunciation as everybody writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, model_validator

from deployments.config.section import Positive, Strict
from pipeline.errors import InputError
from pipeline.text.dictionary import MOST_SAID_CHARS, MOST_WRITTEN_CHARS, checked
from pipeline.text.options import Pronunciation

Language = Literal["en", "zh", "ja", "ko"]


class PronunciationEntry(Strict):
    """What to say for something written."""

    model_config = ConfigDict(populate_by_name=True)

    written: Annotated[str, Field(min_length=1, max_length=MOST_WRITTEN_CHARS)] = Field(
        validation_alias=AliasChoices("written", "string_to_replace"),
        description="A word or phrase, found as a whole; or a regular expression.",
        examples=["Nguyen"],
    )
    said: Annotated[str, Field(max_length=MOST_SAID_CHARS)] = Field(
        validation_alias=AliasChoices("said", "alias"),
        description="What is said in its place; \\1 and \\g<name> are groups of an expression.",
        examples=["win"],
    )
    regex: bool = Field(False, description="`written` is a regular expression.")
    case_sensitive: bool = Field(False, description="Upper and lower case are different.")
    language: Language | None = Field(
        None, description="In texts of this language alone; left out: in all."
    )

    def as_rule(self, label: str = "") -> Pronunciation:
        """For the text front end. label: how refusals name it."""
        return Pronunciation(
            self.written, self.said, self.regex, self.case_sensitive, self.language, label
        )

    @classmethod
    def of(cls, rule: Pronunciation) -> PronunciationEntry:
        """The inverse of `as_rule`, without its label."""
        return cls.model_validate(
            {
                "written": rule.written,
                "said": rule.said,
                "regex": rule.is_regex,
                "case_sensitive": rule.is_cased,
                "language": rule.language,
            }
        )

    @model_validator(mode="after")
    def _can_be_used(self) -> PronunciationEntry:
        try:
            checked(self.as_rule())
        except InputError as error:
            raise ValueError(error.message) from error
        return self


def _known(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: value[name] for name in PronunciationEntry.model_fields if name in value}


WrittenEntry: TypeAlias = Annotated[PronunciationEntry, BeforeValidator(_known)]
"""Of a document: fields of later versions are passed over, as in any other."""


class TextSettings(Strict):
    """How texts are read, where a request does not say."""

    normalize: bool = True
    """Say numbers, dates, sums, units and their like as words."""
    pronunciations: tuple[PronunciationEntry, ...] = ()
    """What is said for what is written, in every request; those of a tenant, a voice or the request
    itself come first."""
    max_pronunciations: Positive = 2_000
    """Entries of one tenant's dictionaries together."""
