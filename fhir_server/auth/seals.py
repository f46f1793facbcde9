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
    """AES-256-GCM and HMAC-SHA-256 under keys derived from one secret (32 bytes)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(hmac.digest(secret, b"seal", "sha256"))

    def seal(self, purpose: str, content: bytes) -> str:
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, zlib.compress(content), purpose.encode())
        return urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, purpose: str, sealed: str) -> bytes | None:
        """None for everything that this server did not seal for this purpose."""
        try:
            raw = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            packed = self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode())
        except (Base64Error, InvalidTag, ValueError):
            return None
        return zlib.decompressobj().decompress(packed, LARGEST)

    def derive(self, purpose: str, *parts: str) -> str:
        """The same 256 bits for the same parts; nobody else can tell them."""
        text = "\0".join((purpose, *parts)).encode()
        return urlsafe_b64encode(hmac.digest(self._secret, text, "sha256")).decode().rstrip("=")

    def matches(self, given: str, purpose: str, *parts: str) -> bool:
        """Is ``given`` what ``derive`` makes of these parts? In constant time."""
        return hmac.compare_digest(given.encode(), self.derive(purpose, *parts).encode())
