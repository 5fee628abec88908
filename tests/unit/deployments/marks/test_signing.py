"""Certificates and keys that can sign, and those that stop the start."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from pydantic import ValidationError

from deployments.config.marks.mark_settings import MarkSettings
from deployments.marks.signing import Signer, credentials
from pipeline.audio.encode import encode_file
from pipeline.errors import ConfigError, StageError
from tests.signers import write_chain

pytestmark = pytest.mark.unit


def settings(chain: Path, key: Path) -> MarkSettings:
    return MarkSettings(c2pa_certificate=str(chain), c2pa_key=str(key))


def test_without_a_certificate_nothing_is_signed() -> None:
    assert Signer.of(MarkSettings()) is None


@pytest.mark.parametrize("given", ["c2pa_certificate", "c2pa_key"])
def test_one_without_the_other_is_a_mistake(given: str) -> None:
    with pytest.raises(ValidationError, match="go together"):
        MarkSettings(**{given: "some.pem"})  # type: ignore[arg-type]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    chain, key = write_chain(tmp_path)
    for one in (settings(tmp_path / "none.pem", key), settings(chain, tmp_path / "none.pem")):
        with pytest.raises(ConfigError, match=r"none\.pem"):
            Signer.of(one)


def test_keys_that_cannot_sign(tmp_path: Path) -> None:
    chain, key = write_chain(tmp_path)
    made = ec.generate_private_key(ec.SECP256K1())
    odd = tmp_path / "odd.pem"
    locked = BestAvailableEncryption(b"secret")
    for content in (
        b"no key",
        made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked),
        chain.read_bytes(),
    ):
        odd.write_bytes(content)
        with pytest.raises(ConfigError, match="c2pa_key"):
            Signer.of(settings(chain, odd))
    del key


def test_a_key_of_another_certificate_does_not_sign(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    chain, _ = write_chain(tmp_path)
    _, key = write_chain(tmp_path / "other")
    file = tmp_path / "a.wav"
    encode_file(np.zeros(24_000, np.float32), file)
    signer = Signer.of(settings(chain, key))
    assert signer is not None
    try:
        signed = signer.signed(file.read_bytes(), "wav")
    except StageError:
        return
    said = credentials(io.BytesIO(signed), "audio/wav")
    assert said is not None
    assert said["validation_state"] == "Invalid"


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "m4a"])
def test_every_container_that_holds_credentials(suffix: str, tmp_path: Path) -> None:
    signer = Signer.of(settings(*write_chain(tmp_path)))
    assert signer is not None
    file = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    encode_file(noise, file)
    signed = signer.signed(file.read_bytes(), suffix)
    media_type = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac"}
    said = credentials(io.BytesIO(signed), media_type.get(suffix, "audio/mp4"))
    assert said is not None
    assert said["validation_state"] == "Valid"


def test_signing_and_reading_ask_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("somebody was called")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    signer = Signer.of(settings(*write_chain(tmp_path)))
    assert signer is not None
    file = tmp_path / "a.flac"
    encode_file(np.full(24_000, 0.1, np.float32), file)
    assert credentials(io.BytesIO(signer.signed(file.read_bytes(), "flac")), "audio/flac")
