"""cryptoHash and encrypt: values that only who has the key can compare or read.

HMAC-SHA256 in hexadecimal; AES in CBC mode, the initialisation vector before the ciphertext, in
base64, as Microsoft's tool writes them. Without a key in the file that of the run is used.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from fhir_server.model.exchange import Json
from operations.deid.run import Run
from operations.deid.transforms.base import SUBJECT, Given, Leaf, Method, Site, dropped

_STRINGS: Final = frozenset(
    ("string", "markdown", "id", "code", "uri", "url", "canonical", "oid", "uuid", "base64Binary")
)
_REFERENCE: Final = re.compile(
    r"(?P<before>#|urn:(?:uuid|oid):|(?:.*/)?[A-Z][A-Za-z]+/)(?P<id>[^/#|?]+)(?P<after>/_history/.*)?"
)
_BITS: Final = (128, 192, 256)


class CryptoHash(Method):
    """``cryptoHashKey``. Of a literal reference only the id is hashed, so that it still leads to
    the resource, whose id is hashed alike."""

    def __init__(self, given: Given) -> None:
        self._key = given.secret("cryptoHashKey")

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _STRINGS:
            return dropped
        literal = site.path.startswith("Reference.") and site.key == "reference"

        def hashed(value: Any, _around: Json, run: Run) -> Any:
            found = _REFERENCE.fullmatch(value) if literal else None
            if found is None:
                return self._hash(value, run)
            return f"{found['before']}{self._hash(found['id'], run)}"

        return hashed

    def _hash(self, value: str, run: Run) -> str:
        key = self._key or run.secret("hash")
        return hmac.digest(key, value.encode(), "sha256").hex()


class Encrypt(Method):
    """``encryptKey``: 16, 24 or 32 characters. The vector is made of the key, the place and the
    value: every run gives the same, other places give another."""

    needs = frozenset((SUBJECT,))

    def __init__(self, given: Given) -> None:
        self._key = given.secret("encryptKey")
        if self._key is not None and len(self._key) * 8 not in _BITS:
            raise ValueError("encryptKey has 128, 192 or 256 bits")

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _STRINGS:
            return dropped

        def encrypted(value: Any, _around: Json, run: Run) -> Any:
            key, plain = self._key or run.secret("encrypt"), value.encode()
            place = f"{run.about.resource} {site.path} ".encode()
            vector = hmac.digest(key, place + plain, "sha256")[:16]
            padder, cipher = PKCS7(128).padder(), Cipher(AES(key), CBC(vector)).encryptor()
            padded = padder.update(plain) + padder.finalize()
            return b64encode(vector + cipher.update(padded) + cipher.finalize()).decode()

        return encrypted
