"""The named voices of a directory: `voices.json` and the clips that it lists."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from pipeline.errors import ConfigError

VOICES_DIR = Path(__file__).parent / "voices"  # the voices in the package
_LIST_NAME = "voices.json"
_FIELDS: Final = frozenset({"name", "file", "transcript", "language", "licence"})


@dataclass(frozen=True, slots=True)
class ListedVoice:
    """A reference clip with a name."""

    name: str
    """The name in requests, lower case."""
    path: Path
    """The clip's file."""
    transcript: str
    """The words spoken in it."""
    language: str
    """ISO 639-1 code of the transcript."""


def load_voices(directory: Path = VOICES_DIR) -> dict[str, ListedVoice]:
    """Voices by name, in the list's order.

    Raises ConfigError naming the file and what is wrong with it: unreadable, not a list of objects
    with exactly the fields above, a name twice or not lower case, a clip that is not there.
    """
    path = directory / _LIST_NAME
    try:
        entries: object = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"the voice list {path} cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"the voice list {path} is not a list of voices")
    voices: dict[str, ListedVoice] = {}
    for entry in cast("list[object]", entries):
        voice = _voice(path, entry)
        if voice.name in voices:
            raise ConfigError(f"the voice list {path} has {voice.name!r} twice")
        voices[voice.name] = voice
    return voices


def _voice(list_path: Path, entry: object) -> ListedVoice:
    if not isinstance(entry, dict) or set(cast("dict[object, object]", entry)) != _FIELDS:
        fields = ", ".join(sorted(_FIELDS))
        raise ConfigError(f"the voice list {list_path} has {entry!r}; a voice has {fields}")
    values = cast("dict[str, object]", entry)
    for field, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"the voice list {list_path} has {field} {value!r}; it needs a text")
    fields = cast("dict[str, str]", values)
    name, clip = fields["name"], list_path.parent / fields["file"]
    if name != name.lower():
        raise ConfigError(f"the voice list {list_path} has the name {name!r}; use lower case")
    if Path(fields["file"]).name != fields["file"] or not clip.is_file():
        raise ConfigError(
            f"the voice list {list_path} has the file {fields['file']!r} for {name!r}; "
            f"it needs a file beside the list"
        )
    return ListedVoice(name, clip, fields["transcript"], fields["language"])
