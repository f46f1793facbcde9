"""L70: thousands of generated requests, answered as by the twin that never held the hidden things;
and the mutants of what hides, each of which some of them must catch.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access import (
    contents,
    labels,
    masking,
    propagating,
    raising,
    restrict,
    shown,
    stripping,
)
from fhir_server.access.consent import pinning
from fhir_server.access.consent import policy as consenting
from fhir_server.search import match
from fhir_server.search.plan import TRUE, All, EachPatient, Predicate
from fhir_server.search.plan import Any as Either
from tests.consent.asking import Asked, differs, first_difference
from tests.consent.fuzzing import Generator, differences
from tests.consent.mutating import mutated
from tests.consent.test_twins import ASKED
from tests.consent.worlds import Twin, twins
from tests.serving import BACKENDS

QUICK = 150
OFTEN = {"memory": 1500, "sqlite": 300, "mongo": 30}
SEED = 2026
ENOUGH = 3000
"""So many generated requests catch every mutant."""


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_l70_no_generated_request_tells(backend: str, tmp_path: Path) -> None:
    none_tells(backend, tmp_path, OFTEN[backend], SEED)


def test_l70_some_generated_requests(tmp_path: Path) -> None:
    none_tells("memory", tmp_path, QUICK, SEED + 1)


def none_tells(backend: str, folder: Path, count: int, seed: int) -> None:
    with twins(backend, folder) as pair:
        found, statuses = differences(pair, count, seed)
    assert [str(asked) for asked in found] == []
    assert 401 not in statuses
    assert statuses[200] > count / 3 and max(statuses) < 500, statuses


MUTANTS: dict[str, tuple[types.ModuleType, str, str]] = {
    "nothing restricted": (restrict, "both(policy.sees(letter, scan.type), ", "both(TRUE, "),
    "chain targets": (
        restrict,
        "targets=tuple(restrict_scan(t, policy) for t in targets)",
        "targets=targets",
    ),
    "_has source": (
        restrict,
        "replace(predicate, source=restrict_scan(source, policy))",
        "predicate",
    ),
    "include targets": (
        restrict,
        "targets=tuple(_readable(target, policy, known) for target in include.targets)",
        "targets=include.targets",
    ),
    "include source": (
        restrict,
        "source=_readable(include.source, policy, known)",
        "source=include.source",
    ),
    "reference leaf": (restrict, "return _reference(predicate, policy)", "return predicate"),
    "present leaf": (restrict, "return _present(predicate, policy)", "return predicate"),
    "fragments are outside": (
        match,
        'return not value.type and not value.url.startswith("#")',
        "return not value.type",
    ),
    "present, but inside": (
        restrict,
        "if (where := policy.inside(target)) != FALSE",
        "for where in (TRUE,)",
    ),
    "inside of a chain": (
        restrict,
        "inside=tuple(_contained(t, policy) for t in inside)",
        "inside=inside",
    ),
    "contained": (restrict, "Contains(_contained(scan, policy))", "predicate"),
    "inside Not": (restrict, "Not(restrict_predicate(part, policy, type_))", "Not(part)"),
    "inside Any": (
        restrict,
        "Any(tuple(restrict_predicate(p, policy, type_) for p in parts))",
        "Any(parts)",
    ),
    "inside All": (
        restrict,
        "All(tuple(restrict_predicate(p, policy, type_) for p in parts))",
        "All(parts)",
    ),
    "words of the masked": (shown, "case _ if _is_maskable(where, maskable):", "case _ if False:"),
    "words of the codes of the masked": (shown, '.partition(":")[0] in maskable', " in maskable"),
    "identifiers of the masked": (shown, 'if param.endswith(":identifier"):', "if False:"),
    "target not joined": (
        restrict,
        "return All((leaf, Chain(leaf.param, (target,))))",
        "return leaf",
    ),
    "masks removed": (masking, "if self._policy.whole or not rows:", "if True:"),
    "narrative kept": (stripping, 'found.pop("text", None)', "pass"),
    "copies kept": (masking, "rule = self._policy.inside(held.type)", "rule = TRUE"),
    "attachments kept": (masking, "found = await self._binaries(binaries)", "found = set()"),
    "binaries for all": (contents, "return target in new or await", "return True or await"),
    "existence not narrowed": (
        consenting,
        'found = self._narrowed(self._inner.exists(type_), "r", type_)',
        "found = self._inner.exists(type_)",
    ),
    "inside not narrowed": (consenting, 'return self._narrowed(TRUE, "r", type_)', "return TRUE"),
    "outside of the compartment": (
        consenting,
        "return every(self._beside(compiler, type_))",
        "return TRUE",
    ),
    "contained not labelled": (labels, "found.values.tokens.extend(label(inner))", "pass"),
    "shared not marked": (labels, "if len(values.patients) > 1:", "if False:"),
    "labels not inherited when written": (raising, "if not any(above):", "if True:"),
    "labels not propagated": (
        propagating,
        "seen, fresh = set(keys), list(keys)",
        "seen, fresh = set(keys), []",
    ),
}


AIMED = (
    "Observation?patient=p2",
    "DocumentReference?relationship=DocumentReference/h3$replaces",
    "Patient?_has:Observation:patient:value-quantity=77",
    "DocumentReference?location=Binary/b3",
    "DocumentReference?contenttype=image/png",
    "DocumentReference?format=letter",
    "DocumentReference?format:text=letterform",
    "Composition?section=34117-2",
    "Composition?entry=Observation/v3",
    "MedicationRequest?_text=viral",
    "Observation?_content=mmol",
    "CarePlan?condition:identifier=n-h2",
    "Condition?_content=viral",
)
"""What a mutant is first tried with, beside the attacks that are known by number."""


@pytest.mark.parametrize("aimed", AIMED)
def test_l70_what_it_has_found(pair: tuple[Twin, Twin], aimed: str) -> None:
    assert not differs(pair, Asked(aimed))


@pytest.fixture(scope="module", params=list(BACKENDS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Twin]]:
    with twins(request.param, tmp_path_factory.mktemp("twins")) as both:
        yield both


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_l70_catches_each_mutant(name: str, tmp_path: Path) -> None:
    with mutated(*MUTANTS[name]):
        assert caught(tmp_path) is not None, f"{name} survives"


def caught(folder: Path) -> Asked | None:
    generate = Generator(SEED)
    fixed = (Asked(url) for url in (*AIMED, *ASKED.values()))
    with twins("memory", folder) as pair:
        generated = (generate() for _ in range(ENOUGH))
        return first_difference(pair, chain(fixed, generated))


CONSTANTS: dict[str, tuple[types.ModuleType, str, Any]] = {
    "sections kept": (stripping, "WHOLE", frozenset()),
    "signatures and counts kept": (stripping, "UNTRUE", frozenset()),
    "nothing inherits": (raising, "INHERITED", {"*": frozenset()}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSTANTS)
def test_l70_catches_each_other_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, constant, value = CONSTANTS[name]
    assert hasattr(module, constant)
    monkeypatch.setattr(module, constant, value)
    assert caught(tmp_path) is not None, f"{name} survives"


def without_rules(_: str, where: Predicate) -> Predicate:
    """``EachPatient`` dropped."""
    if isinstance(where, EachPatient):
        return TRUE
    if isinstance(where, All):
        return All(tuple(without_rules(_, part) for part in where.parts))
    return where


def pinned_alone(type_: str, where: Predicate) -> Predicate:
    """Pinned, as if nothing were in the compartments of several patients."""
    found = pinning.pinned(type_, where)
    if not isinstance(found, All):
        return found
    return All(tuple(part for part in found.parts if not _of_shared(part)))


def _of_shared(part: Predicate) -> bool:
    return isinstance(part, Either) and any(isinstance(p, EachPatient) for p in part.parts)


@pytest.mark.slow
@pytest.mark.parametrize("other", [without_rules, pinned_alone])
def test_l70_catches_rules_that_are_dropped(
    other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restrict, "pinned", other)
    assert caught(tmp_path) is not None, f"{other.__name__} survives"


def test_a_seed_makes_the_same_requests() -> None:
    one, other = ([*islice(iter(Generator(SEED), None), 50)] for _ in range(2))
    assert one == other
