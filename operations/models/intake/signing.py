"""Signatures of packages: Ed25519 (RFC 8032) over the digests of all files.

What is signed is text, one line ``SHA-256  NAME`` per file in order of the names (as sha256sum
prints them), without ``signature.txt``. That file, or what comes beside the archive, is the
signature in base64.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

SIGNATURE: Final = "signature.txt"
_END: Final = b"-----END PUBLIC KEY-----"


class SignatureError(Exception):
    """There is no signature that a trusted key has made; the text says why."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose packages are taken. None trusted: anybody's, also unsigned ones."""

    trusted: tuple[Ed25519PublicKey, ...] = ()

    @classmethod
    def of(cls, path: Path | None) -> Keys:
        """A file of public keys (PEM). Raises ValueError."""
        if path is None:
            return cls()
        parts = path.read_bytes().split(_END)[:-1]
        try:
            keys = [load_pem_public_key(part.strip() + b"\n" + _END + b"\n") for part in parts]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("must hold public keys (PEM)") from error
        if not keys:
            raise ValueError("must hold public keys (PEM)")
        ed25519 = [key for key in keys if isinstance(key, Ed25519PublicKey)]
        if len(ed25519) != len(keys):
            raise ValueError("must hold Ed25519 keys only")
        return cls(tuple(ed25519))

    def signer(self, files: Mapping[str, str], signature: str) -> str:
        """The fingerprint of the key that has signed these digests; "" where none is trusted and
        none has. Raises SignatureError."""
        if not self.trusted:
            return ""
        if not signature.strip():
            raise SignatureError("it is not signed, and this server takes only signed packages")
        try:
            raw = b64decode(signature.strip(), validate=True)
        except binascii.Error:
            raise SignatureError("its signature is not base64") from None
        return _signer(self.trusted, signed(files), raw)


def _signer(keys: Sequence[Ed25519PublicKey], message: bytes, signature: bytes) -> str:
    for key in keys:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            continue
        return fingerprint(key)
    raise SignatureError("its signature is of no trusted key, or not of these files")


def signed(files: Mapping[str, str]) -> bytes:
    """What is signed: digests by name, without that of the signature."""
    lines = [f"{files[name]}  {name}\n" for name in sorted(files) if name != SIGNATURE]
    return "".join(lines).encode()


def sign(files: Mapping[str, str], key: bytes) -> str:
    """The signature by a private key (PEM). Raises ValueError."""
    private = load_pem_private_key(key, None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("the key is not an Ed25519 key")
    return b64encode(private.sign(signed(files))).decode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the public key, in its first 16 digits."""
    raw = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(raw).hexdigest()[:16]
