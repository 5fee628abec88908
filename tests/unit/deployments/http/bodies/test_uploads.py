"""Bodies with a clip beside fields, and what a clip is by its bytes."""

from __future__ import annotations

import pytest

from deployments.http.bodies.forms import Label
from deployments.http.bodies.read import RawBody
from deployments.http.bodies.uploads import check_size, mime_type_of, read_upload
from pipeline.errors import InputError, TooLargeError, UndecodableAudioError
from tests.audio_files import libav, tone, wav
from tests.unit.deployments.http.bodies.sent import FORM, JSON, file_part, form, part

pytestmark = pytest.mark.unit
RATE_HZ = 24_000
SOUND = tone(RATE_HZ, 0.6)
CLIPS = ("audio", "file")


@pytest.mark.parametrize(
    ("container", "codec", "mime_type"),
    [
        ("mp3", "libmp3lame", "audio/mpeg"),
        ("adts", "aac", "audio/aac"),
        ("ogg", "libopus", "audio/ogg"),
        ("flac", "flac", "audio/flac"),
        ("webm", "libopus", "audio/webm"),
        ("mp4", "aac", "audio/mp4"),
    ],
)
def test_a_clip_is_what_its_bytes_say(container: str, codec: str, mime_type: str):
    assert mime_type_of(libav(SOUND, RATE_HZ, container, codec)) == mime_type


def test_a_wav_is_one_and_a_picture_is_none():
    assert mime_type_of(wav(SOUND, RATE_HZ)) == "audio/wav"
    with pytest.raises(UndecodableAudioError):
        mime_type_of(b"\xff\xd8\xff and more of a picture")


def raw(content: bytes, label: str = "") -> RawBody:
    return RawBody(content, Label.of(label))


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (b'{"name": "Zoe", "audio": "SGk="}', JSON),
        (b'{"name": "Zoe", "audio": "data:audio/wav;base64,SGk=", "file": ""}', ""),
        (form(part("name", b"Zoe"), file_part("audio", b"Hi")), FORM),
        (form(part("name", b"Zoe"), part("Audio", b"SGk="), part("file", b"")), ""),
        (b"name=Zoe&audio=SGk%3D", "application/x-www-form-urlencoded"),
    ],
)
def test_fields_and_the_clip_come_apart_whatever_the_body_is(body: bytes, label: str):
    fields, clip = read_upload(raw(body, label), CLIPS)
    assert fields == {"name": "Zoe"}
    assert clip == (b"Hi", "audio")


@pytest.mark.parametrize(
    ("body", "label", "param"),
    [
        (b"  ", JSON, "body"),
        (b"[1]", JSON, "body"),
        (b"plain", "text/plain", "body"),
        (b'{"audio": 7}', JSON, "audio"),
        (b'{"audio": "%%%"}', JSON, "audio"),
        (b'{"audio": "https://example.org/a.wav"}', JSON, "audio"),
        (b'{"audio": "SGk=", "file": "SGk="}', JSON, "file"),
        (form(file_part("audio", b"a"), file_part("file", b"b")), FORM, "file"),
        (form(file_part("other", b"a")), FORM, "other"),
    ],
)
def test_what_cannot_be_read_names_its_field(body: bytes, label: str, param: str):
    with pytest.raises(InputError) as caught:
        read_upload(raw(body, label), CLIPS)
    assert caught.value.param == param


def test_a_clip_has_a_size():
    check_size((b"1234", "audio"), 4)
    with pytest.raises(TooLargeError) as caught:
        check_size((b"12345", "audio"), 4)
    assert caught.value.param == "audio"
