"""What reads strangers' bytes, each as a function of bytes that may raise what it says it raises.

Anything else that it raises is a fault, as are a hang, memory beyond the bound, and a look at a
file or an address. Each is a plain function, so that its corpus runs as ordinary unit tests, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from starlette.datastructures import Headers

from cache_store.codec import HEADER_BYTES, RecordCodec, describe
from cache_store.errors import EntryError
from cache_store.keyring import Keyring
from deployments.config.serve_config import read_settings
from deployments.config.session_settings import SessionSettings
from deployments.config.settings import Limits, load_settings
from deployments.http.bodies.clip_text import clip_bytes
from deployments.http.bodies.fields import validated
from deployments.http.bodies.forms import Label, read_multipart, read_urlencoded
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody
from deployments.http.bodies.uploads import checked_clip, read_upload
from deployments.http.dialects.batch import read_batch
from deployments.http.dialects.edits import read_edit
from deployments.http.dialects.fish import read_fish
from deployments.http.dialects.pronunciations import DictionaryBody
from deployments.http.dialects.speech import parse_request, read_speech
from deployments.http.dialects.voices import ConsentBody, VoiceBody
from deployments.http.jobs.body import Defaults, read_job
from deployments.http.keys.credentials import presented
from deployments.http.model_names import ModelNames
from deployments.http.request_id import request_id_of
from deployments.http.sessions.messages import SessionConfig, read_config, read_message
from deployments.jobs.subtitles import read_subtitles
from deployments.jobs.tables import read_table
from deployments.keys.secrets import id_of, is_id
from deployments.outbound.addresses import AllowedHosts
from deployments.speech.records import SPEECH_SCHEMA, to_answer
from deployments.voices.names import checked_name
from deployments.voices.records import VOICE_SCHEMA, to_prompt
from pipeline.audio.caf_guard import refuse_caf_bomb
from pipeline.audio.decode import ClipLimits
from pipeline.audio.mp4_guard import refuse_mp4_bomb
from pipeline.audio.reference import read_reference
from pipeline.errors import ConfigError, InputError, UnauthenticatedError
from pipeline.text.dictionary import checked, fitting, pronounced
from pipeline.text.front_end import plain_words
from pipeline.text.options import Pronunciation, Reading
from pipeline.text.ssml.document import without_ssml

KEY = "12" * 32
LIMITS = Limits()
SETTINGS = load_settings({})
_CLIPS = ClipLimits(max_duration_s=5.0)
_CLIP_FIELDS = ("audio_sample", "file", "audio")


@dataclass(frozen=True, slots=True)
class Target:
    """One reader. most_bytes: of an input, which need be no larger to reach all of it."""

    run: Callable[[bytes], None]
    most_bytes: int = 4_096


def records(data: bytes) -> None:
    """An entry as the store holds it; then the same as a payload that somebody with a key sealed.

    Without keys of their own all services share a public one, so whoever writes to the bucket has
    it: what is sealed may be anything.
    """
    keyring = Keyring()
    for schema, read in (
        (VOICE_SCHEMA, lambda record: to_prompt(record, KEY)),
        (SPEECH_SCHEMA, to_answer),
    ):
        codec = RecordCodec(schema, keyring)
        for entry in (data, codec.seal(data), codec.seal(data[HEADER_BYTES:])):
            with suppress(EntryError):
                read(codec.decode(entry, KEY))
            with suppress(EntryError):
                describe(entry, keyring, 8 * 2**20)


def audio(data: bytes) -> None:
    """A clip, from its bytes to what the encoder gets."""
    with suppress(InputError):
        read = read_reference(data, _CLIPS)
        assert np.isfinite(read.clip.samples).all()
        assert 0 < read.clip.duration_s <= _CLIPS.max_duration_s


def mp4(data: bytes) -> None:
    """The guards of containers that claim tables, then libav with what they let through."""
    for guard in (refuse_mp4_bomb, refuse_caf_bomb):
        with suppress(InputError):
            guard(data)
    audio(data)


def json_bodies(data: bytes) -> None:
    """A body of every route that takes JSON. Its first line is the Content-Type."""
    raw = _raw_body(data)
    names = ModelNames(SETTINGS)
    defaults = Defaults("aria", ())
    for read in (
        lambda: parse_request(read_speech(raw)[0], LIMITS),
        lambda: read_batch(raw, LIMITS),
        lambda: read_edit(raw, LIMITS, names),
        lambda: read_fish(raw, LIMITS),
        lambda: read_job(raw, defaults, SETTINGS, names),
        lambda: validated(DictionaryBody, read_json(raw.content), ()).dictionary(),
        lambda: validated(VoiceBody, read_upload(raw, _CLIP_FIELDS)[0], ()),
        lambda: validated(ConsentBody, read_upload(raw, _CLIP_FIELDS)[0], ()),
    ):
        with suppress(InputError):
            read()


def multipart(data: bytes) -> None:
    """A form of either kind, and the clip in it. Its first line is the Content-Type."""
    raw = _raw_body(data)
    with suppress(InputError):
        for part in read_multipart(raw.content, raw.label):
            assert part.text is not None
    with suppress(InputError):
        read_urlencoded(raw.content, raw.label)
    with suppress(InputError):
        checked_clip(read_upload(raw, _CLIP_FIELDS)[1], 2**20)
    with suppress(InputError):
        body, clip = read_speech(raw)
        parse_request(body, LIMITS, clip)


def base64_text(data: bytes) -> None:
    """A clip as text."""
    with suppress(InputError):
        clip_bytes(_text(data), "audio")


@dataclass(frozen=True, slots=True)
class _HeldFile:
    """A file in memory, as far as a config's reader looks at it."""

    data: bytes
    name: str = "fuzz.yaml"

    def read_text(self, encoding: str) -> str:
        return self.data.decode(encoding)


def config(data: bytes) -> None:
    """A serve config, up to its settings; then the same as `args`."""
    with suppress(ConfigError):
        read_settings(cast("Path", _HeldFile(data)))
    try:
        args = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    if isinstance(args, dict) and all(isinstance(name, str) for name in args):
        with suppress(ConfigError):
            load_settings(args)


def frames(data: bytes) -> None:
    """A WebSocket's messages, a line each, as a client sends them after one another."""
    for line in data.split(b"\n"):
        with suppress(InputError):
            said = read_message(_text(line), SessionSettings())
            if isinstance(said, SessionConfig):
                read_config(said, LIMITS, ModelNames(SETTINGS).check).request("More text.")


def ssml(data: bytes) -> None:
    """A document by itself, then a whole text with all that is taken for markup."""
    text = _text(data)
    with suppress(InputError):
        without_ssml(f"<speak>{text}</speak>")
    with suppress(InputError):
        plain_words(text)


def expressions(data: bytes) -> None:
    """A pronunciation: flags, what is written, what is said, the text; a line each."""
    flags, _, rest = _text(data).partition("\n")
    written, _, rest = rest.partition("\n")
    said, _, text = rest.partition("\n")
    entry = Pronunciation(written[:200], said[:500], is_regex="r" in flags, is_cased="c" in flags)
    with suppress(InputError):
        entry = checked(entry)
        if fitting(text, [entry]):
            pronounced(text, [entry])
            plain_words(text, Reading(pronunciations=(entry,)))


def tables(data: bytes) -> None:
    """Subtitles and tables of jobs."""
    text = _text(data)
    for read in (read_subtitles, read_table):
        with suppress(InputError):
            read(text, "input")


def names_and_headers(data: bytes) -> None:
    """Names of voices, addresses, request ids, Content-Types: short texts of strangers."""
    text = _text(data)
    with suppress(InputError):
        name = checked_name(text, ("aria", "bruno"))
        assert "/" not in name.shown
    with suppress(InputError):
        AllowedHosts(["hooks.example", "[::1]:8080"]).check(text, "webhook")
    kept = request_id_of(text)
    assert kept.isascii()
    assert kept.isprintable()
    Label.of(data.decode("latin-1"))


def credentials(data: bytes) -> None:
    """A key as clients send it: two headers and a subprotocol, a line each."""
    bearer, _, rest = data.partition(b"\n")
    own, _, offered = rest.partition(b"\n")
    headers = Headers(raw=[(b"authorization", bearer), (b"xi-api-key", own)])
    with suppress(UnauthenticatedError):
        key = presented(headers, offered.decode("latin-1").split(","))
        if key is not None and (key_id := id_of(key)) is not None:
            assert is_id(key_id)


def _raw_body(data: bytes) -> RawBody:
    head, _, content = data.partition(b"\n")
    return RawBody(content, Label.of(head.decode("latin-1")))


def _text(data: bytes) -> str:
    """As it may come out of JSON: what is no UTF-8 becomes lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


TARGETS = {
    "records": Target(records, 8_192),
    "audio": Target(audio, 16_384),
    "mp4": Target(mp4, 8_192),
    "json": Target(json_bodies),
    "multipart": Target(multipart, 8_192),
    "base64": Target(base64_text),
    "config": Target(config),
    "frames": Target(frames),
    "ssml": Target(ssml, 2_048),
    "expressions": Target(expressions, 2_048),
    "credentials": Target(credentials, 1_024),
    "tables": Target(tables),
    "names": Target(names_and_headers, 1_024),
}
