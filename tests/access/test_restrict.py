"""The law of the gate: ``run(restrict(p), everything) == run(p, a world that never held the
hidden things)``, with mutants of ``restrict`` that the law must catch.
"""

from __future__ import annotations

import random
import types
from pathlib import Path

import pytest

import fhir_server.access.restrict as original
from fhir_server.access.policy import ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.scopes import parse_scopes
from fhir_server.search import words
from fhir_server.search.plan import FALSE, TRUE
from fhir_server.store.mongo.opening import open_store as open_mongo
from tests.access.generated_worlds import (
    COMPARTMENT,
    TYPES,
    answer,
    compile_filter,
    fill,
    policy_of,
    question,
    without_hidden,
    world,
)
from tests.mongodb import new_url

WORLDS = 1000


async def breaks_law(restrict: types.ModuleType, seeds: range) -> int | None:
    """The first seed at which the law does not hold."""
    for seed in seeds:
        rng = random.Random(seed)
        held, policy, search = world(rng), policy_of(rng), question(rng)
        twin = without_hidden(held, policy)
        ours = await answer(await fill(held), restrict.restrict(search, policy))
        theirs = await answer(await fill(twin), search)
        if ours != theirs:
            return seed
    return None


async def test_restricted_everything_equals_a_world_without_the_hidden() -> None:
    assert await breaks_law(original, range(WORLDS)) is None


async def test_the_law_on_mongodb() -> None:
    """What it answers to restricted plans is what a world without the hidden answers."""
    for seed in range(WORLDS, WORLDS + 8):
        rng = random.Random(seed)
        held, policy, search = world(rng), policy_of(rng), question(rng)
        theirs = await answer(await fill(without_hidden(held, policy)), search)
        store = await open_mongo(new_url())
        try:
            await fill(held, store)
            ours = await answer(store, original.restrict(search, policy))
        finally:
            await store.close()
        assert ours == theirs, seed


MUTANTS = {
    "composite": (
        "Composite(param, tuple(restrict_predicate(p, policy, type_) for p in parts))",
        "predicate",
    ),
    "nothing restricted": ("both(policy.sees(letter, scan.type), ", "both(TRUE, "),
    "chain targets": ("tuple(restrict_scan(t, policy) for t in targets)", "targets"),
    "_has source": ("replace(predicate, source=restrict_scan(source, policy))", "predicate"),
    "include targets": (
        "targets=tuple(_readable(target, policy, known) for target in include.targets)",
        "targets=include.targets",
    ),
    "include source": (
        "source=_readable(include.source, policy, known)",
        "source=include.source",
    ),
    "all includes": ("_include(include, policy, known) for include", "include for include"),
    "reference leaf": ("return _reference(predicate, policy)", "return predicate"),
    "present leaf": ("return _present(predicate, policy)", "return predicate"),
    "present, but inside": (
        "if (where := policy.inside(target)) != FALSE",
        "for where in (TRUE,)",
    ),
    "inside of a chain": ("inside=tuple(_contained(t, policy) for t in inside)", "inside=inside"),
    "contained": ("Contains(_contained(scan, policy))", "predicate"),
    "contained as if it stood alone": (
        "Scan(scan.type, both(policy.inside(scan.type), where))",
        "restrict_scan(scan, policy)",
    ),
    "inside Not": ("Not(restrict_predicate(part, policy, type_))", "Not(part)"),
    "inside Any": (
        "Any(tuple(restrict_predicate(p, policy, type_) for p in parts))",
        "Any(parts)",
    ),
    "inside All": (
        "All(tuple(restrict_predicate(p, policy, type_) for p in parts))",
        "All(parts)",
    ),
    "hidden reference": ("return leaf if leaf.id in known.ids else FALSE", "return leaf"),
    "target not joined": ("return All((leaf, Chain(leaf.param, (target,))))", "return leaf"),
}


def mutant(old: str, new: str) -> types.ModuleType:
    source = Path(str(original.__file__)).read_text(encoding="utf-8")
    joined = " ".join(source.split())
    assert old in source or " ".join(old.split()) in joined, f"restrict.py has no {old!r}"
    module = types.ModuleType("mutant")
    exec(compile(source.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_law_catches_each_mutant(name: str) -> None:
    old, new = MUTANTS[name]
    assert old in Path(str(original.__file__)).read_text(encoding="utf-8"), name
    assert await breaks_law(mutant(old, new), range(WORLDS)) is not None, f"{name} survives"


async def test_the_law_catches_words_of_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_PASSED_OVER", frozenset({"id"}))
    for remembering in (words._table, words.repeated, words.remembered):
        remembering.cache_clear()
    try:
        assert await breaks_law(original, range(WORLDS)) is not None
    finally:
        for remembering in (words._table, words.repeated, words.remembered):
            remembering.cache_clear()


def test_deny_is_the_default() -> None:
    nobody = ScopePolicy(Principal("n"), COMPARTMENT, compile_filter)
    user = ScopePolicy(
        Principal("u", parse_scopes("user/*.cruds system/*.cruds patient/*.cruds", TYPES)),
        COMPARTMENT,
        compile_filter,
    )
    for policy in (nobody, user):
        for type_ in TYPES:
            assert not any(policy.allows(letter, type_) for letter in "cruds")
            assert policy.sees("r", type_) == FALSE and policy.exists(type_) == FALSE
            assert not policy.whole
    client = Principal("c", parse_scopes("system/Observation.r", TYPES), system=True)
    narrow = ScopePolicy(client, COMPARTMENT, compile_filter)
    assert narrow.sees("r", "Observation") == TRUE
    assert narrow.sees("s", "Observation") == FALSE and narrow.sees("r", "Patient") == FALSE
