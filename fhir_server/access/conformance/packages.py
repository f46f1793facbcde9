"""Installed packages: what they hold lies in a blob, a row of the ledger says that they are there.

So every process of every host sees the same, and a backup holds them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.blob_use import CONTENT, USE, needed
from fhir_server.access.commit import Commit
from fhir_server.access.conformance.epoch import MARK, PARAMETERS
from fhir_server.definitions.packages import Package, PackageError, satisfies
from fhir_server.definitions.structures import Archive
from fhir_server.model.problem import Conflict, NotFound
from fhir_server.store.blobs import Blob, Blobs
from fhir_server.store.ledger import Ledger, LedgerWrite, Row

KIND: Final = "package"


@dataclass(frozen=True, slots=True)
class Installed:
    """``missing``: dependencies that were not there when it was installed, name#version.
    ``searching``: are its SearchParameters in force?
    """

    name: str
    version: str
    canonical: str
    dependencies: Mapping[str, str]
    missing: tuple[str, ...]
    counts: Mapping[str, int]
    blob: Blob
    since: int
    searching: bool = True

    @property
    def id(self) -> str:
        return f"{self.name}#{self.version}"

    @classmethod
    def of(cls, row: Row) -> Installed:
        value = row.value
        return cls(
            value["name"],
            value["version"],
            value["canonical"],
            value["dependencies"],
            tuple(value["missing"]),
            value["counts"],
            Blob(value["sha256"], value["size"]),
            value["since"],
            value.get("searching", True),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "canonical": self.canonical,
            "dependencies": dict(self.dependencies),
            "missing": list(self.missing),
            "counts": dict(self.counts),
            "since": self.since,
            "searching": self.searching,
        }


class Packages:
    """Those of one store. ``commit``: writes ledger rows in one commit."""

    def __init__(self, ledger: Ledger, commit: Commit, blobs: Blobs | None) -> None:
        self._ledger = ledger
        self._commit = commit
        self._blobs = blobs
        self._archives: dict[str, Archive] = {}

    async def all(self) -> list[Installed]:
        """By name and version."""
        return [Installed.of(row) for row in await self._ledger.scan(KIND)]

    async def install(
        self, package: Package, now: int, *, incomplete: bool = False, searching: bool = True
    ) -> Installed | None:
        """None: it is there already. PackageError where a dependency is missing, unless it may be
        ``incomplete``. ``now``: microseconds since the epoch. ``searching``: its SearchParameters
        are put in force.
        """
        known = await self.all()
        missing = [
            f"{name}#{version}"
            for name, version in sorted(package.dependencies.items())
            if not any(one.name == name and satisfies(one.version, version) for one in known)
        ]
        if missing and not incomplete:
            text = f"{package.id} needs packages that are not installed: {', '.join(missing)}"
            raise PackageError(text, code="not-found")
        blob = await needed(self._blobs).put(_content(package.archive))
        made = Installed(
            package.name,
            package.version,
            package.canonical,
            package.dependencies,
            tuple(missing),
            package.counts,
            blob,
            now,
            searching,
        )
        there = next((one for one in known if one.id == made.id), None)
        if there is not None:
            if there.blob == blob and there.searching == searching:
                return None
            what = "with another content" if there.blob != blob else "otherwise"
            raise Conflict(f"{made.id} is installed {what}: remove it first")
        named = {"sha256": blob.sha256, "size": blob.size}
        rows = (
            LedgerWrite(KIND, made.id, made.to_json() | named, expect=0),
            LedgerWrite(CONTENT, f"{KIND}/{made.id}/0", named),
            LedgerWrite(USE, f"{blob.sha256}/{KIND}/{made.id}", {}),
            MARK,
            PARAMETERS,
        )
        if not await self._commit(rows):
            raise Conflict(f"{made.id} has just been installed")
        return made

    async def remove(self, id_: str) -> Installed:
        """NotFound; Conflict where another one needs it."""
        known = await self.all()
        gone = next((one for one in known if one.id == id_), None)
        if gone is None:
            raise NotFound(f"the package {id_[:200]} is not installed")
        left = [one for one in known if one.id != id_]
        needing = [one.id for one in left if _needs(one, gone) and not _otherwise(left, one, gone)]
        if needing:
            raise Conflict(f"{id_} is needed by {', '.join(needing)}")
        rows = (
            LedgerWrite(KIND, id_, None),
            LedgerWrite(CONTENT, f"{KIND}/{id_}/0", None),
            LedgerWrite(USE, f"{gone.blob.sha256}/{KIND}/{id_}", None),
            MARK,
            PARAMETERS,
        )
        if not await self._commit(rows):
            raise Conflict(f"{id_} is being changed")
        return gone

    async def archives(self) -> list[tuple[Installed, Archive]]:
        """What is installed, the newest first. Raises Damaged."""
        found = sorted(await self.all(), key=lambda one: (-one.since, one.id))
        kept = {one.blob.sha256 for one in found}
        self._archives = {k: v for k, v in self._archives.items() if k in kept}
        for one in found:
            if one.blob.sha256 not in self._archives:
                stream = await needed(self._blobs).read(one.blob)
                packed = b"".join([part async for part in stream])
                self._archives[one.blob.sha256] = Archive(packed)
        return [(one, self._archives[one.blob.sha256]) for one in found]


def _needs(one: Installed, gone: Installed) -> bool:
    wanted = one.dependencies.get(gone.name)
    return wanted is not None and satisfies(gone.version, wanted)


def _otherwise(left: list[Installed], one: Installed, gone: Installed) -> bool:
    """Is the dependency met by another version that stays?"""
    wanted = one.dependencies[gone.name]
    return any(other.name == gone.name and satisfies(other.version, wanted) for other in left)


async def _content(packed: bytes) -> AsyncIterator[bytes]:
    yield packed
