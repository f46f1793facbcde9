"""The profiles of a server: those that are shipped, and a folder of further files.

A file is known by its name without ``.json``, or by its ``url``. It is read when it is asked for
and has changed; what does not load answers with its faults and de-identifies nothing. So what one
process puts there or takes away is so at once for all.

``versions/NAME/VERSION.json`` keeps what was put there over HTTP, never changed. A version before
the one in force is found as ``name|version`` or ``url|version``, for as long as the name is in
force.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from fhir_server.definitions.registry import load
from fhir_server.model.problem import Conflict, Issue, NotFound, Unavailable, Unprocessable
from operations.deid.engine import Deidentifier, profiles
from operations.deid.profile import ProfileError, read

VERSIONS: Final = "versions"


class _Held(NamedTuple):
    stamp: tuple[int, int, int]
    made: Deidentifier | ProfileError


class Version(NamedTuple):
    """A version that is kept; ``path``: its file. ``current``: it is the one in force."""

    version: str
    path: Path
    current: bool


@dataclass(frozen=True, slots=True)
class Shelf:
    """``folder``: of further profiles; it need not be there."""

    folder: Path
    _held: dict[Path, _Held] = field(default_factory=dict)

    def find(self, name: str) -> Deidentifier:
        """By code or canonical. NotFound: there is none; Unprocessable: it does not load."""
        for shipped in profiles():
            if shipped.profile.named(name):
                return shipped
        for code, made in self._further():
            if isinstance(made, ProfileError):
                if code == name:
                    raise Unprocessable([Issue("invalid", one) for one in made.findings])
            elif made.profile.named(name):
                return made
        before = self._before(name) if "|" in name else None
        if before is not None:
            return before
        known = ", ".join(self.codes())
        raise NotFound(f"unknown de-identification profile; known: {known}")

    def codes(self) -> list[str]:
        """The names of all profiles, those that are shipped first."""
        own = {shipped.profile.code for shipped in profiles()}
        return [*sorted(own), *(code for code, _ in self._further() if code not in own)]

    def path(self, code: str) -> Path | None:
        """The file of a further profile that is in force."""
        path = self.folder / f"{code}.json"
        return path if path.is_file() else None

    def versions(self, code: str) -> list[Version]:
        """Of a further profile, also of one that was taken away; the oldest first."""
        force = self.path(code)
        body = force.read_bytes() if force is not None else None
        kept = sorted(
            (self.folder / VERSIONS / code).glob("*.json"), key=lambda path: path.stat().st_mtime_ns
        )
        return [Version(path.stem, path, path.read_bytes() == body) for path in kept]

    def keep(self, code: str, version: str, body: bytes) -> bool:
        """A version more, not in force yet; False if the same is kept already. Conflict: there is
        another of this number. Unavailable: it cannot be written."""
        path = self.folder / VERSIONS / code / f"{version}.json"
        try:
            for folder in (self.folder.parent, self.folder, path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            whole = _written(path, body)
            try:
                path.hardlink_to(whole)
            except FileExistsError:
                if path.read_bytes() != body:
                    text = f"{code} has another version {version}: versions are immutable"
                    raise Conflict(text) from None
                return False
            finally:
                whole.unlink()
        except OSError:
            raise Unavailable("the folder of profiles cannot be written") from None
        return True

    def put(self, code: str, version: str) -> None:
        """What is kept, in force. Unavailable: it cannot be written."""
        path = self.folder / VERSIONS / code / f"{version}.json"
        try:
            _written(path, path.read_bytes()).replace(self.folder / f"{code}.json")
        except OSError:
            raise Unavailable("the folder of profiles cannot be written") from None

    def remove(self, code: str) -> None:
        """Nobody is answered by it any more; its versions stay, for whoever asks what it was."""
        try:
            (self.folder / f"{code}.json").unlink(missing_ok=True)
        except OSError:
            raise Unavailable("the folder of profiles cannot be written") from None

    def _before(self, name: str) -> Deidentifier | None:
        """A version before, of a profile in force."""
        for code, _ in self._further():
            for kept in self.versions(code):
                made = self._made(kept.path, code)
                if isinstance(made, ProfileError):
                    continue
                if name == f"{code}|{kept.version}" or made.profile.named(name):
                    return made
        return None

    def _further(self) -> Iterator[tuple[str, Deidentifier | ProfileError]]:
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            try:
                yield path.stem, self._made(path, path.stem)
            except FileNotFoundError:
                continue  # taken away meanwhile

    def _made(self, path: Path, code: str) -> Deidentifier | ProfileError:
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        held = self._held.get(path)
        if held is None or held.stamp != stamp:
            try:
                made: Deidentifier | ProfileError = Deidentifier(read(path, code), load())
            except ProfileError as error:
                made = error
            held = self._held[path] = _Held(stamp, made)
        return held.made


def _written(beside: Path, body: bytes) -> Path:
    """A whole file beside another, durable and for its owner only."""
    path = beside.with_name(f"{beside.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    return path
