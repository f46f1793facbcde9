"""The keys of de-identification: one file, outside of the data directory, for its owner only.

A project has numbered keys; the highest makes pseudonyms, shifts and noise, so the same project
gets the same answer at every run until its key is rotated. Former keys stay, for who has to tell
what an older answer was made with. The vault has a key of its own in the same file. Running
servers see a changed file at once.

A file that is lost is not made anew: what was made with its keys, the vault and the pseudonyms of
a data bank, would be lost with it, and nobody would be told. Until it is brought back, whatever
needs a key is refused.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from fhir_server.model.problem import BadRequest, Conflict, Unavailable, Unprocessable

SIZE: Final = 32
"""Bytes of a key."""
VAULT: Final = "vault"
PROJECTS: Final = "projects"
LOST: Final = "the file of keys is not where it was: it has to be brought back"
_PROJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """One version of a project's key. ``project`` empty: of one run, kept nowhere."""

    project: str
    version: int
    secret: bytes

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose."""
        return hmac.digest(self.secret, purpose.encode(), "sha256")


class Known(NamedTuple):
    """A key as it may be shown. ``created``: epoch seconds."""

    project: str
    version: int
    created: int
    in_use: bool


class KeyRing:
    """``path``: the file, made with the first key. ``now``: epoch seconds. ``sealed``: a file that
    is there only if keys were in use; without ``path`` beside it they are lost."""

    def __init__(self, path: Path, now: Callable[[], float], sealed: Path | None = None) -> None:
        self.path = path
        self._now = now
        self._sealed = sealed
        self._stamp: tuple[int, int] = (0, 0)
        self._ring: dict[str, Any] = {}

    def project(self, name: str) -> ProjectKey:
        """The newest key. Unprocessable if the project has none."""
        return self._key(PROJECTS, name, None)

    def version(self, name: str, version: int) -> ProjectKey:
        """Unprocessable if there is no such key."""
        return self._key(PROJECTS, name, version)

    def vault(self) -> bytes:
        """The key of the vault, made when it is first asked for, beside one of a project.
        Unavailable: there is a vault, but not its key."""
        known = self._read()
        if not known.get(PROJECTS):
            raise Unavailable(LOST)
        if not known.get(VAULT):
            if self._sealed is not None and self._sealed.exists():
                raise Unavailable("the key of the vault is not in the file of keys")
            with self._changing() as ring:
                if not ring.get(VAULT):
                    ring[VAULT] = {VAULT: [self._made()]}
        return self._key(VAULT, VAULT, None).secret

    def known(self) -> list[Known]:
        """Every key of a project, by name, the newest first."""
        return [
            Known(name, len(rows) - n, row["created"], n == 0)
            for name, rows in sorted(self._read().get(PROJECTS, {}).items())
            for n, row in enumerate(reversed(rows))
        ]

    def check(self) -> None:
        """Raises Unavailable if the keys are lost."""
        self._read()

    def add(self, name: str) -> int:
        """A first key; its version. Conflict: there is one; Unavailable: keys are lost."""
        if _PROJECT.fullmatch(name) is None:
            raise BadRequest("a project is named by letters, digits, . _ - (64 at most)")
        with self._changing() as ring:
            if name in ring.setdefault(PROJECTS, {}):
                raise Conflict(f"the project {name} has a key: rotate replaces it")
            ring[PROJECTS][name] = [self._made()]
        return 1

    def rotate(self, name: str) -> int:
        """A new key; its version. Unprocessable if the project has none yet."""
        self.project(name)
        with self._changing() as ring:
            ring[PROJECTS][name].append(self._made())
            return len(ring[PROJECTS][name])

    def _made(self) -> dict[str, Any]:
        return {
            "created": int(self._now()),
            "secret": b64encode(secrets.token_bytes(SIZE)).decode(),
        }

    def _key(self, kind: str, name: str, version: int | None) -> ProjectKey:
        rows = self._read().get(kind, {}).get(name, [])
        number = len(rows) if version is None else version
        if not 1 <= number <= len(rows):
            raise Unprocessable(
                f"there is no key for the project {name[:64]!r}; vehr deid keys add makes one",
                code="not-found",
            )
        try:
            secret = b64decode(rows[number - 1]["secret"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise Unavailable("the file of keys is damaged") from None
        if len(secret) != SIZE:
            raise Unavailable("the file of keys is damaged")
        return ProjectKey(name, number, secret)

    def _read(self) -> dict[str, Any]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._ring or (self._sealed is not None and self._sealed.exists()):
                raise Unavailable(LOST) from None
            return {}
        except OSError:
            raise Unavailable("the file of keys cannot be read") from None
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._ring = _opened(self.path)
            self._stamp = stamp
        return self._ring

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """What is in the file, to be changed, with every other process waiting. Unavailable: the
        file cannot be written; nothing is changed then."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f"{self.path.name}.lock")
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._stamp = (0, 0)
                ring = deepcopy(self._read())
                yield ring
                _replace(self.path, ring)
                self._stamp = (0, 0)
        except OSError:
            raise Unavailable("the file of keys cannot be written") from None


def _opened(path: Path) -> dict[str, Any]:
    """What a file holds, by kind and name. Raises Unavailable."""
    try:
        ring = json.loads(path.read_text(encoding="utf-8"))
        kinds = [ring.get(kind, {}) for kind in (VAULT, PROJECTS)]
        rows = [row for kind in kinds for one in kind.values() for row in one]
        if not all(isinstance(row["created"], int) and row["secret"] for row in rows):
            raise ValueError
    except FileNotFoundError:
        raise Unavailable(LOST) from None
    except OSError:
        raise Unavailable("the file of keys cannot be read") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Unavailable("the file of keys is damaged") from None
    return dict(ring)


def _replace(path: Path, ring: dict[str, Any]) -> None:
    """A complete file, durable and for its owner only, in the place of the one before."""
    whole = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(ring, file)
        file.flush()
        os.fsync(file.fileno())
    whole.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
