"""The cleaner of free text of a server or a command: its lists, its model, its definitions."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.definitions.registry import load
from operations.deid.elements import Elements
from operations.deid.text.cleaner import Cleaner
from operations.deid.text.tagging.tagger import Tagger
from operations.models.batching import Graph
from operations.models.manifest import Tags
from operations.models.package import ModelPackage
from operations.models.registry import TEXT, Registry
from operations.models.runtime import Runtime
from operations.models.tagging import lexicon


@dataclass(frozen=True, slots=True)
class InUse:
    """The version of the model that the registry says is in use: ``tagger.Models``."""

    registry: Registry

    async def version(self) -> tuple[ModelPackage, Tags]:
        """Raises Unavailable."""
        package = await self.registry.tagger()
        assert package.card.tags is not None
        return package, package.card.tags

    async def run(self, graph: Graph, inputs: dict[str, list[float]]) -> dict[str, list[float]]:
        """Raises Unavailable."""
        return await self.registry.runtime.run(graph, inputs)


def text_cleaner(registry: Registry) -> Cleaner:
    """Whose model is that which is in use whenever texts come."""
    return Cleaner(Tagger(InUse(registry), lexicon()), lexicon(), Elements(load()))


def shipped(runtime: Runtime) -> Registry:
    """For a command: the model of free text that comes with the program."""
    return Registry.of(runtime, (TEXT,))
