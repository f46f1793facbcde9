"""Models on one stored record: what a job asks patient by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fhir_server.model.problem import Issue, NotFound, Unavailable

from .evidence import Moment, Wanted, gathered
from .inference import Inference, Question, needed
from .monitoring.watching import watched
from .package import ModelPackage
from .record import RecordReader
from .registry import Registry


@dataclass(frozen=True, slots=True)
class Found:
    """``failures``: of models that could not be run, as warnings."""

    inferences: list[Inference]
    failures: list[Issue] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asking:
    """``asked``: the models were asked for by name. ``wanted``: they, and those that they derive
    features from."""

    registry: Registry
    packages: Sequence[ModelPackage]
    wanted: Sequence[ModelPackage]
    asked: bool
    _told: dict[Moment, Wanted] = field(default_factory=dict)

    @classmethod
    async def of(cls, registry: Registry, names: Sequence[str]) -> Asking:
        """Of the models named, or of every champion. Raises NotFound; Unavailable if a model
        named cannot be run."""
        packages: dict[str, ModelPackage] = {}
        await registry.refresh()
        for name in names or registry.names():
            try:
                package = await registry.champion(name)
            except (NotFound, Unavailable):  # without names: retired meanwhile, or broken
                if names:
                    raise
                continue
            packages[package.id] = package
        chosen = list(packages.values())
        return cls(registry, chosen, await needed(registry, chosen), bool(names))

    async def about(self, reader: RecordReader, moment: Moment) -> Found:
        """Raises NotFound, Gone; Unavailable if none of the models could be run."""
        if moment not in self._told:
            self._told.clear()
            self._told[moment] = Wanted.of(self.wanted, moment)
        evidence = await gathered(reader, self._told[moment])
        question = Question(self.registry, evidence, moment, {}, self.asked)
        found = Found([])
        for package in self.packages:
            try:
                found.inferences.append(await watched(package, question))
            except Unavailable as problem:
                found.failures.extend(problem.issues)
        if found.failures and not found.inferences:
            raise Unavailable(found.failures)
        return found
