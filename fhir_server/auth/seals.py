"""Sealed values: what a browser carries between pages and can neither read nor change."""

from __future__ import annotations

import hmac
import os
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12
LARGEST: Final = 32_768
"""Bytes of a sealed value once opened."""


class Seals:
    """AES-256-GCM and HMAC-SHA-256 under keys derived from secrets (32 bytes each): the first
    makes, the others are still understood.
    """

    def __init__(self, *secrets: bytes) -> None:
        self.rekey(*secrets)

    def rekey(self, *secrets: bytes) -> None:
        """Other secrets from now on."""
        self._secrets = secrets
        self._ciphers = [AESGCM(hmac.digest(one, b"seal", "sha256")) for one in secrets]

    def seal(self, purpose: str, content: bytes) -> str:
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._ciphers[0].encrypt(nonce, zlib.compress(content), purpose.encode())
        return urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, purpose: str, sealed: str) -> bytes | None:
        """None for everything that this server did not seal for this purpose."""
        try:
            raw = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except (Base64Error, ValueError):
            return None
        for cipher in self._ciphers:
            try:
                packed = cipher.decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode())
            except (InvalidTag, ValueError):
                continue
            return zlib.decompressobj().decompress(packed, LARGEST)
        return None

    def derive(self, purpose: str, *parts: str) -> str:
        """The same 256 bits for the same parts; nobody else can tell them."""
        return _derived(self._secrets[0], purpose, *parts)

    def matches(self, given: str, purpose: str, *parts: str) -> bool:
        """Is ``given`` what ``derive`` makes of these parts? In constant time."""
        made = [_derived(secret, purpose, *parts) for secret in self._secrets]
        return any(hmac.compare_digest(given.encode(), one.encode()) for one in made)


def _derived(secret: bytes, purpose: str, *parts: str) -> str:
    text = "\0".join((purpose, *parts)).encode()
    return urlsafe_b64encode(hmac.digest(secret, text, "sha256")).decode().rstrip("=")
