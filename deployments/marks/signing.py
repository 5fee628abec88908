"""Signs whole audio files with the operator's certificate, by C2PA's content credentials.

A signature is new each time: signed files differ though their audio is the same.
"""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from deployments.config.marks.mark_settings import MarkSettings
from pipeline.errors import ConfigError, StageError

# By our names of formats; the others' containers have no place for credentials.
MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "m4a": "audio/mp4"}
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_CURVES = {"secp256r1": b"es256", "secp384r1": b"es384"}
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_EXTRA = "the extra `c2pa` (package c2pa-python), which is not installed"


class Signer:
    """A certificate and its key. Safe from any thread; signing blocks for some milliseconds."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """PEM: the chain, the signer's own first, and its key (PKCS #8).

        Raises ConfigError for what cannot sign.
        """
        try:
            import c2pa
        except ImportError as error:
            raise ConfigError(f"marks.c2pa_certificate needs {_EXTRA}") from error
        self._c2pa = c2pa
        self._certificate, self._key = certificate, key
        self._algorithm = _algorithm(key)
        self._manifest = json.dumps(
            {
                "claim_generator_info": [{"name": "timbre", "version": version("timbre")}],
                "title": "Synthetic speech",
                "assertions": [
                    {
                        "label": "c2pa.actions.v2",
                        "data": {
                            "actions": [{"action": "c2pa.created", "digitalSourceType": SYNTHETIC}]
                        },
                    }
                ],
            }
        )

    @classmethod
    def of(cls, settings: MarkSettings) -> Signer | None:
        """None where nothing is signed. Raises ConfigError for files that cannot be used."""
        if settings.c2pa_certificate is None or settings.c2pa_key is None:
            return None
        certificate = _read("marks.c2pa_certificate", settings.c2pa_certificate)
        return cls(certificate, _read("marks.c2pa_key", settings.c2pa_key))

    def signs(self, audio_format: str) -> bool:
        """Whether files of a format can hold credentials."""
        return audio_format in MEDIA_TYPES

    def signed(self, audio: bytes, audio_format: str) -> bytes:
        """The file with its credentials. Raises StageError."""
        made = io.BytesIO()
        self.sign_file(io.BytesIO(audio), made, audio_format)
        return made.getvalue()

    def sign_file(self, audio: IO[bytes], made: IO[bytes], audio_format: str) -> None:
        """The same of open files, of which `made` can be read as well. Raises StageError."""
        c2pa = self._c2pa
        try:
            with (
                c2pa.Signer.from_info(self._info()) as signer,
                c2pa.Builder(self._manifest) as builder,
            ):
                builder.sign(signer, MEDIA_TYPES[audio_format], audio, made)
        except c2pa.C2paError as error:
            raise StageError("the file could not be signed", detail=str(error)) from error

    def _info(self) -> Any:
        return self._c2pa.C2paSignerInfo(self._algorithm, self._certificate, self._key, None)


def has_reader() -> bool:
    """Whether credentials can be read here."""
    return find_spec("c2pa") is not None


def credentials(audio: IO[bytes], media_type: str) -> dict[str, Any] | None:
    """What a file's credentials say, as C2PA's reader tells it; None where it has none.

    Its signature and digests are checked: `validation_state` has what came of it. Nothing that the
    file names is fetched.
    """
    import c2pa

    try:
        with (
            c2pa.Context.from_dict(_OFFLINE) as context,
            c2pa.Reader(media_type, audio, context=context) as reader,
        ):
            return json.loads(reader.json())
    except c2pa.C2paError:  # none, or none of a kind that can be read
        return None


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from error


def _algorithm(key: bytes) -> bytes:
    """How a key signs, by C2PA's names. Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError("marks.c2pa_key holds no private key in PEM without password") from error
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and loaded.curve.name in _CURVES:
        return _CURVES[loaded.curve.name]
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(loaded, rsa.RSAPrivateKey):
        return b"ps256"
    raise ConfigError("marks.c2pa_key is of no kind that signs: P-256, P-384, Ed25519 or RSA")
