"""The models of this server: versions side by side, the champion of each name.

A package that cannot be loaded is listed with its reason and offered to nobody. Golden
vectors are run before a version gives its first result (and by ``verify``, at leisure after
the start); a version that fails them is withdrawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Gone, NotFound, Unavailable
from fhir_server.model.resource import Key

from .package import ModelPackage, PackageError, load
from .runtime import Runtime

SHIPPED: Final = Path(__file__).resolve().parent
"""The folder of the models that come with the server."""


@dataclass(slots=True)
class Version:
    """One loaded package. ``verified``: its golden vectors have passed here."""

    package: ModelPackage
    verified: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Registry:
    """``champions``: name to version; ``refused``: folder to reason."""

    runtime: Runtime
    versions: dict[str, Version] = field(default_factory=dict)
    champions: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runtime: Runtime, roots: Iterable[Path] = (SHIPPED,)) -> Registry:
        """Every folder below ``roots`` that holds any part of a package."""
        registry = cls(runtime)
        for root in roots:
            folders = (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ()
            for folder in sorted(folders):
                if any((folder / part).exists() for part in ("model.onnx", "card.toml")):
                    registry.add(folder)
        return registry

    def add(self, folder: Path) -> None:
        """Load one package; a newer version becomes the champion of its name."""
        try:
            package = load(folder)
        except PackageError as error:
            self.refused[folder.name] = str(error)
            return
        card = package.card
        if package.id in self.versions:
            self.refused[folder.name] = f"{package.id} is loaded already: versions are immutable"
            return
        self.versions[package.id] = Version(package)
        current = self.champions.get(card.name)
        if current is None or _order(card.version) > _order(current):
            self.champions[card.name] = card.version
        self.aliases[card.name] = card.name
        for alias in card.aliases:
            self.aliases.setdefault(alias, card.name)

    def names(self) -> list[str]:
        """The models that have a champion."""
        return sorted(self.champions)

    async def champion(self, name: str) -> ModelPackage:
        """By name or alias, or one version as ``name|version``; its golden vectors have passed.

        Raises NotFound for an unknown model, Unavailable when it cannot be run now.
        """
        base, _, wanted = name.partition("|")
        known = self.aliases.get(base.lower())
        if known is None or known not in self.champions:
            raise NotFound(f"Unknown model {name!r}; known: {', '.join(self.names())}")
        version = self.versions.get(f"{known}-{wanted or self.champions[known]}")
        if version is None:
            raise NotFound(f"Model {known} has no version {wanted}")
        await self._verified(version)
        return version.package

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
        vectors = package.golden
        try:
            inputs = {
                f.name: [package.encode(f, v.inputs[f.name]) for v in vectors]
                for f in package.features.feature
            }
        except ValueError as error:
            raise self._withdraw(package, f"golden.json: {error}") from error
        outputs = await self.runtime.run(package, inputs)
        for row, vector in enumerate(vectors):
            for name, expected in vector.expected.items():
                if name not in outputs:
                    raise self._withdraw(package, f"the graph has no output {name}")
                got = outputs[name][row]
                if abs(got - expected) > vector.tolerance:
                    raise self._withdraw(
                        package, f"golden vector {row + 1}: {name} is {got:.6g}, not {expected}"
                    )

    def _withdraw(self, package: ModelPackage, reason: str) -> Unavailable:
        self.refused[package.folder.name] = reason
        self.versions.pop(package.id, None)
        name = package.card.name
        others = [v.package.card.version for v in self.versions.values() if _is(v, name)]
        if others:
            self.champions[name] = max(others, key=_order)
        else:
            self.champions.pop(name, None)
        return Unavailable(f"Model {package.id} is not available: {reason}")


def device(package: ModelPackage) -> Json:
    """The Device that stands for one version (https://hl7.org/fhir/R4/device.html)."""
    card = package.card
    return {
        "resourceType": "Device",
        "id": package.id,
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:sha256:{package.sha256}"}],
        "status": "active",
        "deviceName": [{"name": card.title, "type": "model-name"}],
        "modelNumber": card.name,
        "type": {"text": "Prediction model"},
        "version": [{"value": card.version}],
        "url": card.source.url,
        "note": [
            {"text": f"Intended use: {card.intended_use}"},
            {"text": f"Population: {card.population}"},
            *({"text": f"Limit: {limit}"} for limit in card.limits),
        ],
    }


async def publish(registry: Registry, session: Session) -> list[Key]:
    """Store the Devices that the face does not have yet, so that results can refer to them.

    ``session``: of the server itself. Gives the keys that were written.
    """
    drafts = []
    for version in registry.versions.values():
        resource = device(version.package)
        key = Key("Device", resource["id"])
        try:
            await session.read(key)
        except (NotFound, Gone):
            drafts.append(Draft("PUT", key, resource))
    if drafts:
        await session.write(drafts)
    return [draft.key for draft in drafts]


def _is(version: Version, name: str) -> bool:
    return version.package.card.name == name


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
