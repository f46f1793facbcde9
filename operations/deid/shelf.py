"""The profiles of a server: those that are shipped, and a folder of further files.

A file is known by its name without ``.json``, or by its ``url``. It is read when it is asked for
and has changed; what does not load answers with its faults and de-identifies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fhir_server.definitions.registry import load
from fhir_server.model.problem import Issue, NotFound, Unprocessable
from operations.deid.engine import Deidentifier, profiles
from operations.deid.profile import ProfileError, read


class _Held(NamedTuple):
    stamp: tuple[int, int, int]
    made: Deidentifier | ProfileError


@dataclass(frozen=True, slots=True)
class Shelf:
    """``folder``: of further profiles; it need not be there."""

    folder: Path
    _held: dict[str, _Held] = field(default_factory=dict)

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
        known = ", ".join(self.codes())
        raise NotFound(f"unknown de-identification profile; known: {known}")

    def codes(self) -> list[str]:
        """The names of all profiles, those that are shipped first."""
        own = {shipped.profile.code for shipped in profiles()}
        return [*sorted(own), *(code for code, _ in self._further() if code not in own)]

    def _further(self) -> Iterator[tuple[str, Deidentifier | ProfileError]]:
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            yield path.stem, self._made(path)

    def _made(self, path: Path) -> Deidentifier | ProfileError:
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        held = self._held.get(path.name)
        if held is None or held.stamp != stamp:
            try:
                made: Deidentifier | ProfileError = Deidentifier(read(path), load())
            except ProfileError as error:
                made = error
            held = self._held[path.name] = _Held(stamp, made)
        return held.made
