"""How many mutants of the guides' examples are found, at the right place."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhir_server.model.problem import Issue
from fhir_server.validation.profile.judging import Question
from fhir_server.validation.profile.profiles import claimed
from tests.validation.profile.mutations import Making
from tests.validation.profile.spoiling import Mutant
from tests.validation.profile.world import World, examples, guides


@dataclass
class Rate:
    """``rules``: elements of profiles of which something was broken."""

    made: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    rules: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def share(self) -> float:
        return self.found.total() / self.made.total()


def is_found(mutant: Mutant, issues: list[Issue]) -> bool:
    """An issue of at least this severity, there (or below), that says the word."""
    return any(
        (one.expression == mutant.at or (not mutant.exact and _below(one, mutant.at)))
        and mutant.word in one.diagnostics
        and one.severity in (mutant.severity, "error")
        for one in issues
    )


def _below(issue: Issue, at: str) -> bool:
    return (issue.expression or "").startswith((f"{at}.", f"{at}["))


def rate(shared: Path, every: int = 1, *, profiles: bool = True) -> Rate:
    """Of every n-th example. ``profiles`` False: as if there were none."""
    world, told = guides(shared), Rate()
    judge = world if profiles else World()
    for name, resource in list(examples(shared))[::every]:
        for url in claimed(resource):
            structure = world.profiles.structure(url)
            if structure is None or name.endswith("validation-oo.json"):
                continue
            for mutant in Making(structure, resource, _member(world), _target(world)).all():
                if not mutant.at:
                    continue
                told.made[mutant.kind] += 1
                told.rules.add((url, mutant.element, mutant.kind))
                wanted = (url,) if profiles else ()
                issues = judge.issues(mutant.resource, *wanted)
                if is_found(mutant, issues):
                    told.found[mutant.kind] += 1
                else:
                    shown = [(one.expression, one.diagnostics[:80]) for one in issues[:3]]
                    told.missed.append(f"{name} {mutant.kind} {mutant.element}: {shown}")
    return told


def _member(world: World) -> Any:
    def member(url: str, system: str | None, code: str) -> bool | None:
        codes = asyncio.run(world.answer(Question("value-set", url)))
        if codes.listed or codes.unknown:
            return codes.has(system, code)  # type: ignore[no-any-return]
        systems = codes.candidates if system is None else (system,)
        asked = (Question("code", url, one, code) for one in systems)
        found = [asyncio.run(world.answer(one)) for one in asked]
        return True if True in found else None if None in found else False

    return member


def _target(world: World) -> Any:
    def target(url: str) -> str:
        found = world.profiles.structure(url.partition("|")[0])
        return str(found.get("type", "")) if found else ""

    return target
