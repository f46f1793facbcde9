"""The re-identification vault: what the pseudonyms of a project stand for.

A SQLite file of its own, apart from the record. Rows are found by a keyed hash of project and
pseudonym and hold the original under AES-GCM, bound to that hash; the key is in the file of keys,
so that neither file tells anything without the other. Nothing is in it of profiles that use
random codes.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.model.problem import Unavailable
from operations.deid.keys import ProjectKey

NONCE: Final = 12
WAIT: Final = 30.0
"""Seconds for which another process may be writing."""
_PROOF: Final = b"proof"
_TABLE: Final = "CREATE TABLE IF NOT EXISTS vault (name BLOB PRIMARY KEY, body BLOB) WITHOUT ROWID"


class Original(msgspec.Struct, frozen=True, array_like=True):
    """What a pseudonym stands for (``Patient/1``), the version of the project's key that made it,
    and when it was first given out (microseconds)."""

    key: str
    version: int
    at: int


@dataclass(frozen=True, slots=True)
class Vault:
    """``path``: the file, made when something is first kept. ``key``: asks for the vault's key."""

    path: Path
    key: Callable[[], bytes]

    async def keep(self, project: ProjectKey, issued: Mapping[str, str], now: int) -> None:
        """Originals and their pseudonyms. Durable when it returns; Unavailable if it cannot be."""
        if issued:
            await asyncio.to_thread(self._keep, project, issued, now)

    async def originals(self, project: str, pseudonyms: Sequence[str]) -> dict[str, Original]:
        """Those that are known, by pseudonym. Unavailable: something in it is damaged."""
        return await asyncio.to_thread(self._originals, project, pseudonyms)

    async def forget(self, originals: Collection[str]) -> int:
        """Erase what stands for these (``Patient/1``), in every project; how many rows it were."""
        return await asyncio.to_thread(self._forget, frozenset(originals))

    def check(self) -> None:
        """Raises Unavailable if there is a vault that cannot be opened."""
        if self.path.exists():
            naming, _ = self._keys()
            self._opened(naming).close()

    def _forget(self, originals: frozenset[str]) -> int:
        if not originals or not self.path.exists():
            return 0
        naming, cipher = self._keys()
        try:
            with closing(self._opened(naming)) as store, store:
                store.execute("PRAGMA secure_delete = ON")
                rows = store.execute("SELECT name, body FROM vault WHERE name != ?", (_PROOF,))
                gone = [(n,) for n, body in rows if _original(cipher, n, body).key in originals]
                store.executemany("DELETE FROM vault WHERE name = ?", gone)
        except (InvalidTag, msgspec.MsgspecError):
            raise Unavailable("the vault is damaged, or its key is another") from None
        except (OSError, sqlite3.Error):
            raise Unavailable("the vault cannot be written") from None
        return len(gone)

    def _keep(self, project: ProjectKey, issued: Mapping[str, str], now: int) -> None:
        naming, cipher = self._keys()
        rows = []
        for key, pseudonym in issued.items():
            name = _name(naming, project.project, pseudonym)
            nonce = secrets.token_bytes(NONCE)
            plain = msgspec.json.encode(Original(key, project.version, now))
            rows.append((name, nonce + cipher.encrypt(nonce, plain, name)))
        try:
            with closing(self._opened(naming)) as store, store:
                store.executemany("INSERT OR IGNORE INTO vault VALUES (?, ?)", rows)
        except (OSError, sqlite3.Error):
            raise Unavailable("the vault cannot be written") from None

    def _originals(self, project: str, pseudonyms: Sequence[str]) -> dict[str, Original]:
        if not self.path.exists():
            return {}
        naming, cipher = self._keys()
        found: dict[str, Original] = {}
        try:
            with closing(self._opened(naming)) as store:
                for pseudonym in pseudonyms:
                    name = _name(naming, project, pseudonym)
                    row = store.execute("SELECT body FROM vault WHERE name = ?", (name,)).fetchone()
                    if row is not None:
                        found[pseudonym] = _original(cipher, name, row[0])
        except (InvalidTag, msgspec.MsgspecError):
            raise Unavailable("the vault is damaged, or its key is another") from None
        except (OSError, sqlite3.Error):
            raise Unavailable("the vault cannot be read") from None
        return found

    def _keys(self) -> tuple[bytes, AESGCM]:
        key = self.key()
        return hmac.digest(key, b"names", "sha256"), AESGCM(hmac.digest(key, b"bodies", "sha256"))

    def _opened(self, naming: bytes) -> sqlite3.Connection:
        """Raises Unavailable if it was made with another key: that one is missing."""
        if not self.path.exists():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
        store = sqlite3.connect(self.path, timeout=WAIT)
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = FULL")
        store.execute(_TABLE)
        proof = hmac.digest(naming, b"proof", "sha256")
        with store:
            store.execute("INSERT OR IGNORE INTO vault VALUES (?, ?)", (_PROOF, proof))
        (kept,) = store.execute("SELECT body FROM vault WHERE name = ?", (_PROOF,)).fetchone()
        if not hmac.compare_digest(kept, proof):
            store.close()
            raise Unavailable("the vault was made with another key than that in the file of keys")
        return store


def _original(cipher: AESGCM, name: bytes, body: bytes) -> Original:
    plain = cipher.decrypt(body[:NONCE], body[NONCE:], name)
    return msgspec.json.decode(plain, type=Original)


def _name(naming: bytes, project: str, pseudonym: str) -> bytes:
    return hmac.digest(naming, f"{project}\n{pseudonym}".encode(), "sha256")[:16]
