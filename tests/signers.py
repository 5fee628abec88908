"""A certificate chain of the tests' own, as C2PA wants a signer's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "timbre tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def write_chain(directory: Path) -> tuple[Path, Path]:
    """Files of a chain of two and of the signer's key, in PEM."""
    now = datetime.now(UTC)
    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, is_authority: bool):
        built = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(_usage(is_authority=is_authority), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()),
                critical=False,
            )
        )
        if not is_authority:
            signs = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            built = built.add_extension(signs, critical=False)
        return built.sign(root, hashes.SHA256())

    chain = [
        certificate("signer", own, is_authority=False),
        certificate("root", root, is_authority=True),
    ]
    files = directory / "chain.pem", directory / "key.pem"
    files[0].write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    files[1].write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
