"""Sealed files: encrypted and authenticated in pieces, so that they can be streamed.

AES-256-GCM (NIST SP 800-38D) in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár
2015, https://eprint.iacr.org/2015/189): the nonce of a piece is its number and whether it is the
last, so that no piece can be moved, doubled or left out, nor the end be cut off. Each file has a
key of its own, derived by HKDF-SHA256 (RFC 5869) from the key file and a random salt; a check
value in the header tells a wrong key from a damaged file.
"""

from __future__ import annotations

import binascii
import secrets
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC: Final = b"vEHRseal\x01"
SALT: Final = 32
CHECK: Final = 16
HEADER: Final = len(MAGIC) + SALT + CHECK
PIECE: Final = 1 << 20
TAG: Final = 16


class SealError(Exception):
    """What cannot be opened, or a key that cannot be used; its text is for the user."""


def read_key(path: Path) -> bytes:
    """32 bytes from a file of 64 hexadecimal digits (``openssl rand -hex 32``)."""
    try:
        text = path.read_bytes()[:1000].strip()
        key = binascii.a2b_hex(text)
    except OSError as error:
        raise SealError(f"the key file {path} cannot be read: {error.strerror}") from None
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise SealError(f"{path} is not a key file: it has not 64 hexadecimal digits")
    return key


def is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _derived(key: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    """The cipher of one file, and its check value."""
    made = HKDF(SHA256(), 32 + CHECK, salt, MAGIC).derive(key)
    return AESGCM(made[:32]), made[32:]


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class Sealer:
    """Writes a sealed file. It is whole only after ``close``."""

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        salt = secrets.token_bytes(SALT)
        self._cipher, check = _derived(key, salt)
        self._header = MAGIC + salt + check
        self._file = file
        self._rest = bytearray()
        self._number = 0
        file.write(self._header)

    def write(self, content: bytes) -> int:
        self._rest += content
        while len(self._rest) > PIECE:
            self._seal(bytes(self._rest[:PIECE]), last=False)
            del self._rest[:PIECE]
        return len(content)

    def _seal(self, piece: bytes, *, last: bool) -> None:
        nonce = _nonce(self._number, last)
        self._file.write(self._cipher.encrypt(nonce, piece, self._header))
        self._number += 1

    def close(self) -> None:
        self._seal(bytes(self._rest), last=True)


class Unsealer:
    """Reads a sealed file; gives nothing that has not been verified. Raises SealError."""

    def __init__(self, file: BinaryIO, key: bytes, name: str) -> None:
        self._name = name
        self._header = file.read(HEADER)
        if len(self._header) < HEADER or not self._header.startswith(MAGIC):
            raise SealError(f"{name} is not whole")
        salt, check = self._header[len(MAGIC) :][:SALT], self._header[-CHECK:]
        self._cipher, expected = _derived(key, salt)
        if not secrets.compare_digest(check, expected):
            raise SealError(f"the key does not open {name}")
        self._file = file
        self._next = file.read(PIECE + TAG)
        self._rest = b""
        self._number = 0
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer at the end; below 0: all that is left."""
        while not self._ended and (size < 0 or len(self._rest) < size):
            self._rest += self._open()
        if size < 0:
            size = len(self._rest)
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _open(self) -> bytes:
        piece, self._next = self._next, self._file.read(PIECE + TAG)
        self._ended = not self._next
        try:
            found = self._cipher.decrypt(_nonce(self._number, self._ended), piece, self._header)
        except InvalidTag:
            raise SealError(f"{self._name} is not whole or was changed") from None
        self._number += 1
        return found
