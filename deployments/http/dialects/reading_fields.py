"""Fields of every dialect about how a text is read, and what they ask for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from deployments.config.text_settings import PronunciationEntry
from deployments.http.bodies.fields import ITEMS, OBJECT, Lenient, from_text
from deployments.pronunciation.readings import AskedReading

MOST_ENTRIES, MOST_DICTIONARIES = 100, 10


def _ids(value: Any) -> Any:
    value = from_text(value)
    return [value] if isinstance(value, str) else value


DictionaryIds = Annotated[
    Annotated[list[str], Field(max_length=MOST_DICTIONARIES)], BeforeValidator(_ids)
]


class NormalizationOptions(Lenient):
    """Kokoro's. Only `normalize` has an effect."""

    normalize: bool | None = None


class ReadingFields(Lenient):
    """What stands beside OpenAI's fields."""

    normalize: bool | None = Field(
        None,
        description="true: numbers, dates, sums and units are said as words; false: the text is "
        "handed to the model as written; left out: as the service is set up (true as delivered)",
    )
    normalization_options: Annotated[NormalizationOptions, OBJECT] | None = Field(
        None, description="Kokoro's: `normalize` in it is as `normalize`; the rest has no effect"
    )
    pronunciation: (
        Annotated[Annotated[list[PronunciationEntry], Field(max_length=MOST_ENTRIES)], ITEMS] | None
    ) = Field(None, description="What to say for what is written, in this request")
    pronunciation_dictionary: DictionaryIds | None = Field(
        None, description="Ids of dictionaries from /v1/audio/pronunciations, the first one first"
    )


def asked_reading(body: ReadingFields) -> AskedReading:
    """What the fields ask for."""
    options = body.normalization_options
    is_normalised = body.normalize
    if is_normalised is None and options is not None:
        is_normalised = options.normalize
    return AskedReading(
        is_normalised,
        tuple(body.pronunciation or ()),
        tuple(body.pronunciation_dictionary or ()),
    )
