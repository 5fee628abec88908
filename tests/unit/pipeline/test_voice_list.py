from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.audio.decode import decode_clip
from pipeline.errors import ConfigError
from pipeline.voice_list import VOICES_DIR, load_voices

pytestmark = pytest.mark.unit


def test_the_voices_in_the_package() -> None:
    voices = load_voices(VOICES_DIR)
    assert list(voices)[:2] == ["aria", "bruno"]
    assert len(voices) == 8
    for name, voice in voices.items():
        assert voice.name == name
        assert voice.language == "en"
        assert voice.path.stat().st_size <= 250_000
        clip = decode_clip(voice.path.read_bytes())
        assert clip.sample_rate_hz == 22_050
        assert 3.4 < clip.duration_s < 5.5
        assert 10 < len(voice.transcript.split()) < 20


def entry(**changes: object) -> dict[str, object]:
    known = {"name": "a", "file": "a.wav", "transcript": "Hi.", "language": "en", "licence": "ours"}
    return {**known, **changes}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": 1}, "is not a list of voices"),
        (["a"], "has 'a'; a voice has file, language, licence, name, transcript"),
        ([entry(extra="x")], "'extra': 'x'"),
        ([entry(), entry()], "has 'a' twice"),
        ([entry(transcript="  ")], "has transcript '  '; it needs a text"),
        ([entry(language=3)], "has language 3; it needs a text"),
        ([entry(name="A")], "has the name 'A'; use lower case"),
        ([entry(file="b.wav")], "has the file 'b.wav' for 'a'"),
        ([entry(file="../a.wav")], "has the file '../a.wav' for 'a'"),
    ],
)
def test_mistakes_in_the_list(entries: object, message: str, tmp_path: Path) -> None:
    shutil.copy(VOICES_DIR / "aria.wav", tmp_path / "a.wav")
    shutil.copy(VOICES_DIR / "aria.wav", tmp_path.parent / "a.wav")
    (tmp_path / "voices.json").write_text(json.dumps(entries))
    with pytest.raises(ConfigError) as caught:
        load_voices(tmp_path)
    assert message in caught.value.message
    assert str(tmp_path / "voices.json") in caught.value.message


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_a_list_that_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "voices.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"voices\.json cannot be read"):
        load_voices(tmp_path)
