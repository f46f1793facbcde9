"""The models of this server: versions side by side, the champion of each name.

A package that cannot be loaded is listed with its reason and offered to nobody. Golden
vectors are run before a version gives its first result (and by ``verify``, at leisure after
the start); a version that fails them is withdrawn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, isclose
from pathlib import Path
from typing import Final

from fhir_server.model.problem import NotFound, Unavailable

from .gate import gate_fault
from .intake.signing import SIGNATURE, Keys, SignatureError
from .monitoring.monitor import Monitor
from .package import TAGGER, ModelPackage, PackageError, load
from .runtime import Runtime
from .shelf import Shelf
from .state import CHALLENGER, CHAMPION, Kept, Snapshot
from .tagging import tagging_fault

ANYBODY: Final = Keys()
PAUSE: Final = 10.0
"""Seconds until a package that could not be read is tried again."""
SHIPPED: Final = Path(__file__).resolve().parent
"""The folder of the models that come with the server."""
TEXT: Final = SHIPPED.parent / "deid" / "text"
"""That of the model of free text, which comes with the server too."""


@dataclass(slots=True)
class Version:
    """One loaded package. ``verified``: its golden vectors have passed here."""

    package: ModelPackage
    verified: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Registry:
    """``champions``: name to version; ``challengers`` likewise; ``refused``: folder (of a pushed
    one: id) to reason; ``retired``: ids. ``stopped``: id to the conditions of its gate that a
    version has not met; it answers only who asks for it as name|version. ``shelf``: where pushed
    packages come from.
    """

    runtime: Runtime
    versions: dict[str, Version] = field(default_factory=dict)
    champions: dict[str, str] = field(default_factory=dict)
    challengers: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    stopped: dict[str, str] = field(default_factory=dict)
    shelf: Shelf | None = None
    keys: Keys = field(default_factory=Keys)
    monitor: Monitor | None = None
    _again: float = inf
    _known: Snapshot = field(default_factory=lambda: Snapshot(0, {}, {}))
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(
        cls,
        runtime: Runtime,
        roots: Iterable[Path] = (SHIPPED,),
        shelf: Shelf | None = None,
        keys: Keys = ANYBODY,
        monitor: Monitor | None = None,
    ) -> Registry:
        """Every folder below ``roots`` that holds any part of a package. ``keys``: who must have
        signed those of other folders than this one."""
        registry = cls(runtime, shelf=shelf, keys=keys, monitor=monitor)
        for root in roots:
            folders = (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ()
            for folder in sorted(folders):
                if any((folder / part).exists() for part in ("model.onnx", "card.toml")):
                    registry.add(folder)
        return registry

    def add(self, folder: Path) -> None:
        """Load one package of a folder; a newer version becomes the champion of its name, if it
        has passed its gate."""
        try:
            package = load(folder)
            if folder.parent not in (SHIPPED, TEXT):
                path = folder / SIGNATURE
                self.keys.signer(package.files, path.read_text() if path.is_file() else "")
        except (PackageError, SignatureError) as error:
            self.refused[folder.name] = str(error)
            return
        if package.id in self.versions:
            self.refused[folder.name] = f"{package.id} is loaded already: versions are immutable"
            return
        self.include(package)
        card = package.card
        current = self.champions.get(card.name)
        newer = current is None or _order(card.version) > _order(current)
        if newer and package.id not in self.stopped:
            self.champions[card.name] = card.version

    def include(self, package: ModelPackage) -> None:
        """Make one package known by its version and by the aliases of its card."""
        card = package.card
        self.versions[package.id] = Version(package)
        fault = gate_fault(package)
        if fault:
            self.stopped[package.id] = fault
        if self.monitor is not None and package.reference is not None:
            self.monitor.knows(package.id, package.reference)
        self.aliases[card.name] = card.name
        for alias in card.aliases:
            self.aliases.setdefault(alias, card.name)

    async def refresh(self) -> None:
        """Follow what was pushed, activated and retired since, by any process."""
        if self.shelf is None:
            return
        epoch, now = await self.shelf.state.epoch(), time.monotonic()
        if epoch == self._known.epoch and now < self._again:
            return
        async with self._lock:
            self._again = inf
            found = await self.shelf.state.snapshot()
            for id_, kept in found.kept.items():
                if kept.binary and not kept.retired and id_ not in self.versions:
                    await self._fetch(kept, self.shelf)
            self.retired = {id_ for id_, kept in found.kept.items() if kept.retired}
            self._settle(found)
            self._known = found

    async def _fetch(self, kept: Kept, shelf: Shelf) -> None:
        """What cannot be read now must not keep the others from their answers."""
        try:
            self.include(await shelf.fetch(kept))
            self.refused.pop(kept.id, None)
        except PackageError as error:
            self.refused[kept.id] = str(error)
        except Unavailable as problem:
            self.refused[kept.id] = str(problem)
            self._again = time.monotonic() + PAUSE

    def _settle(self, found: Snapshot) -> None:
        """Aliases as a person has put them; else the newest version of a folder is champion."""
        own = [v for v in self.versions.values() if not self._pushed(v, found)]
        self.champions, self.challengers = {}, {}
        for version in sorted(own, key=lambda v: _order(v.package.card.version)):
            if version.package.id not in self.retired | self.stopped.keys():
                card = version.package.card
                self.champions[card.name] = card.version
        for name, alias in found.aliases.items():
            for word, chosen in ((CHAMPION, self.champions), (CHALLENGER, self.challengers)):
                if alias.current.get(word):
                    chosen[name] = alias.current[word]
                elif word in alias.current:
                    chosen.pop(name, None)

    @staticmethod
    def _pushed(version: Version, found: Snapshot) -> bool:
        kept = found.kept.get(version.package.id)
        return kept is not None and bool(kept.binary)

    @property
    def known(self) -> Snapshot:
        """What the ledger said at the last ``refresh``."""
        return self._known

    def names(self) -> list[str]:
        """The models of the record that have a champion."""
        return sorted(name for name in self.champions if name != TAGGER)

    def offered(self, name: str) -> list[str]:
        """The versions of a model that may be asked for, in order."""
        cards = [v.package.card for id_, v in self.versions.items() if id_ not in self.retired]
        return sorted((card.version for card in cards if card.name == name), key=_order)

    async def champion(self, name: str) -> ModelPackage:
        """By name or alias, or one version as ``name|version``; its golden vectors have passed.

        Raises NotFound for an unknown model, Unavailable when it cannot be run now.
        """
        await self.refresh()
        base, _, wanted = name.partition("|")
        known = self.aliases.get(base.lower(), base.lower())
        if known == TAGGER or (not wanted and known not in self.champions):
            self._stopped(known)
            raise NotFound(f"Unknown model {name!r}; known: {', '.join(self.names())}")
        return await self.verified(known, wanted or self.champions[known])

    async def tagger(self) -> ModelPackage:
        """The model of free text that is in use; its golden vector has passed. Raises
        Unavailable: there is none, or it cannot be run now."""
        await self.refresh()
        try:
            return await self.verified(TAGGER, self.champions.get(TAGGER, ""))
        except NotFound:
            raise Unavailable(f"no version of {TAGGER} is in use: nothing reads text") from None

    def _stopped(self, name: str) -> None:
        """Raises NotFound, with what to ask for, where only versions short of their gate are."""
        for id_, fault in self.stopped.items():
            version = self.versions.get(id_)
            if version is not None and _is(version, name) and id_ not in self.retired:
                told = f"{name}|{version.package.card.version}"
                raise NotFound(f"Model {name} has not passed its gate ({fault}): ask for {told}")

    async def challenger(self, name: str) -> ModelPackage | None:
        """The version of a name that computes beside its champion without being shown. None
        where there is none, or it cannot be run now."""
        version = self.challengers.get(name)
        if version is None:
            return None
        try:
            return await self.verified(name, version)
        except (NotFound, Unavailable):
            return None

    async def verified(self, name: str, version: str) -> ModelPackage:
        """One version, its golden vectors passed. Raises NotFound, Unavailable."""
        id_ = f"{name}-{version}"
        found = self.versions.get(id_)
        if id_ in self.retired:
            raise NotFound(f"Model {name} has no version {version} any more: it is retired")
        if found is None and id_ in self.refused:
            raise Unavailable(f"Model {id_} is not available: {self.refused[id_]}")
        if found is None:
            raise NotFound(f"Model {name} has no version {version}")
        await self._verified(found)
        return found.package

    async def verify(self) -> None:
        """Run every golden vector; what fails them is withdrawn with its reason."""
        for version in list(self.versions.values()):
            try:
                await self._verified(version)
            except Unavailable:
                continue

    async def _verified(self, version: Version) -> None:
        if version.verified:
            return
        async with version.lock:
            if not version.verified:
                await self._run_golden(version.package)
                version.verified = True

    async def _run_golden(self, package: ModelPackage) -> None:
        fault = await golden_fault(self.runtime, package)
        if fault:
            raise self._withdraw(package, fault)

    def _withdraw(self, package: ModelPackage, reason: str) -> Unavailable:
        self.refused[package.folder.name] = reason
        self.versions.pop(package.id, None)
        name = package.card.name
        if self.shelf is not None and name in self._known.aliases:
            self.refused[package.id] = reason
            return Unavailable(f"Model {package.id} is not available: {reason}")
        same = [v.package for v in self.versions.values() if _is(v, name)]
        others = [one.card.version for one in same if one.id not in self.stopped]
        if others:
            self.champions[name] = max(others, key=_order)
        else:
            self.champions.pop(name, None)
        return Unavailable(f"Model {package.id} is not available: {reason}")


async def golden_fault(runtime: Runtime, package: ModelPackage) -> str:
    """Why the graph does not give what its golden vectors expect; "" if it does. Raises
    Unavailable if it cannot be run."""
    if package.text is not None:
        return await tagging_fault(runtime, package, package.text)
    vectors = package.golden
    try:
        inputs = {
            f.name: [package.encode(f, v.inputs[f.name]) for v in vectors]
            for f in package.features.feature
        }
    except ValueError as error:
        return f"golden.json: {error}"
    outputs = await runtime.run(package, inputs)
    alone = await runtime.run(package, {name: values[:1] for name, values in inputs.items()})
    # Vector instructions round the last digit of a batch otherwise than that of one row.
    if any(
        not isclose(outputs[name][0], v[0], rel_tol=1e-9, abs_tol=1e-12)
        for name, v in alone.items()
    ):
        return "the graph mixes the rows of a batch"
    for row, vector in enumerate(vectors):
        for name, expected in vector.expected.items():
            if name not in outputs:
                return f"the graph has no output {name}"
            got = outputs[name][row]
            if abs(got - expected) > vector.tolerance:
                return f"golden vector {row + 1}: {name} is {got:.6g}, not {expected}"
    return ""


def _is(version: Version, name: str) -> bool:
    return version.package.card.name == name


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
