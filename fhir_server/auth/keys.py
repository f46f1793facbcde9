"""The keys of the authorization server: one file, for its owner only (mode 0600).

It holds the secret behind sealed values and the RSA keys that sign id_tokens. ``rotate`` puts
a new key first; older ones stay in the JWKS until no token that they signed is still valid.
Running servers see a changed file at once.
"""

from __future__ import annotations

import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from joserfc.jwk import RSAKey

from fhir_server.auth.seals import Seals

FILE: Final = "auth-keys.json"
ALGORITHM: Final = "RS256"
"""What SMART (App Launch 2.2) asks of id_tokens."""
BITS: Final = 2048
KEPT: Final = 86_400
"""Seconds for which a replaced key stays published; longer than any id_token lives."""


class Keys:
    """``folder`` None: keys that live as long as this process. ``now``: epoch seconds."""

    def __init__(self, folder: Path | None, now: Callable[[], float]) -> None:
        self._path = None if folder is None else folder / FILE
        self._now = now
        self._stamp: tuple[int, int] = (0, 0)
        self._ring: dict[str, Any] = {}
        self._keys: list[RSAKey] = []
        self._seals = Seals(b"")
        self._read()

    @property
    def seals(self) -> Seals:
        """Under the secret of the file, and for a while under the one before."""
        self._read()
        return self._seals

    def signing(self) -> RSAKey:
        """The newest key."""
        self._read()
        return self._keys[0]

    def published(self) -> dict[str, Any]:
        """The JWKS: public members alone."""
        self._read()
        public = [key.as_dict(private=False) for key in self._keys]
        return {"keys": [{**key, "use": "sig", "alg": ALGORITHM} for key in public]}

    def known(self) -> list[tuple[str, float]]:
        """Ids of the published keys and when they were made, the newest first."""
        self._read()
        return [(row["key"]["kid"], row["created"]) for row in self._ring["keys"]]

    def rotate(self) -> str:
        """A new signing key; the id of it."""
        self._read()
        now = self._now()
        kept = []
        for row in self._ring["keys"]:
            replaced = row.get("replaced", now)
            if replaced > now - KEPT:
                kept.append({**row, "replaced": replaced})
        made = _new_key(now)
        self._take({**self._ring, "keys": [made, *kept]})
        if self._path is not None:
            _write(self._path, self._ring)
        return str(made["key"]["kid"])

    def reseal(self) -> None:
        """A new secret behind sealed values; pages that people have open still work."""
        self._read()
        former = self._ring["secret"]
        self._take({**self._ring, "secret": _new_secret(), "former": former})
        if self._path is not None:
            _write(self._path, self._ring)

    def _read(self) -> None:
        if self._path is None:
            if not self._ring:
                self._take(_new_ring(self._now()))
            return
        try:
            found = self._path.stat()
        except FileNotFoundError:
            _write_once(self._path, _new_ring(self._now()))
            found = self._path.stat()
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._take(json.loads(self._path.read_text(encoding="utf-8")))
            self._stamp = stamp

    def _take(self, ring: dict[str, Any]) -> None:
        self._ring = ring
        secrets_ = [ring[name] for name in ("secret", "former") if name in ring]
        self._seals.rekey(*map(b64decode, secrets_))
        self._keys = [RSAKey.import_key(row["key"]) for row in ring["keys"]]


def _new_key(now: float) -> dict[str, Any]:
    key = RSAKey.generate_key(BITS, {"kid": secrets.token_hex(8)}, private=True)
    return {"created": int(now), "key": key.as_dict(private=True)}


def _new_ring(now: float) -> dict[str, Any]:
    return {"secret": _new_secret(), "keys": [_new_key(now)]}


def _new_secret() -> str:
    return b64encode(os.urandom(32)).decode()


def _write_once(path: Path, ring: dict[str, Any]) -> None:
    """The first of several processes writes; the others use what it wrote."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = _beside(path, ring)
    try:
        os.link(whole, path)
    except FileExistsError:
        pass
    finally:
        whole.unlink()


def _write(path: Path, ring: dict[str, Any]) -> None:
    _beside(path, ring).replace(path)


def _beside(path: Path, ring: dict[str, Any]) -> Path:
    """A complete file next to ``path``, durable and for its owner only."""
    whole = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(ring, file)
        file.flush()
        os.fsync(file.fileno())
    return whole
