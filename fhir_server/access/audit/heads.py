"""Heads: how far a chain has come, signed, as rows of the ledger.

A file that is cut or gone is found by the head that the ledger holds; a head that is changed by
its signature (Ed25519, a key of the data directory, mode 0600, in no backup).
"""

from __future__ import annotations

import os
import secrets
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from fhir_server.access.audit.chain import Place
from fhir_server.store.ledger import LedgerWrite, Row
from fhir_server.store.trail import FORMER

KIND: Final = "audit-head"
FILE: Final = "audit.key"


class HeadKey:
    """The key of one data directory. ``name``: its public half, base64."""

    def __init__(self, secret: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        public = self._private.public_key().public_bytes_raw()
        self.name = b64encode(public).decode()

    @classmethod
    def of(cls, data: Path) -> HeadKey:
        """The key of this directory, made if there is none. Raises OSError."""
        path = data / FILE
        try:
            return cls(b64decode(path.read_bytes()))
        except FileNotFoundError:
            _write_once(path, b64encode(os.urandom(32)))
            return cls(b64decode(path.read_bytes()))

    def row(self, place: Place, at: int, *, closed: bool, removed: bool = False) -> LedgerWrite:
        """The head as a row of the ledger, in place of the one before. ``removed``: the chain
        itself went, for it was old.
        """
        signed = _signed(place, at, closed=closed, removed=removed)
        value = {
            "n": place.n,
            "hash": place.hash,
            "at": at,
            "closed": closed,
            "key": self.name,
            "signature": b64encode(self._private.sign(signed)).decode(),
        } | ({"removed": True} if removed else {})
        return LedgerWrite(KIND, place.chain, value)


def names(data: Path) -> list[str]:
    """The public keys of a data directory: its own, if it has one, and those of the directories
    from which it was restored. Raises OSError.
    """
    own = [HeadKey.of(data).name] if (data / FILE).is_file() else []
    former = (data / FORMER).read_text("ascii").split() if (data / FORMER).is_file() else []
    return [*own, *former]


def holds(row: Row) -> bool:
    """Was the head signed, as it is, with the key that it names?"""
    value = row.value
    try:
        public = Ed25519PublicKey.from_public_bytes(b64decode(value["key"]))
        public.verify(b64decode(value["signature"]), _signed_row(row))
    except (InvalidSignature, KeyError, ValueError, TypeError):
        return False
    return True


def place_of(row: Row) -> Place:
    return Place(row.key, row.value["n"], row.value["hash"])


def is_removed(row: Row) -> bool:
    """Did the chain of this head go in its time?"""
    return row.value.get("removed") is True


def _signed(place: Place, at: int, *, closed: bool, removed: bool) -> bytes:
    return msgspec.json.encode((*place, at, closed, *(["removed"] if removed else [])))


def _signed_row(row: Row) -> bytes:
    value: dict[str, Any] = row.value
    closed = value["closed"]
    return _signed(place_of(row), value["at"], closed=closed, removed=is_removed(row))


def _write_once(path: Path, content: bytes) -> None:
    """The first of several processes writes; the others use what it wrote."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(whole, path)
    except FileExistsError:
        pass
    finally:
        whole.unlink()
