"""The rows against the published FHIRPath (errata applied), on elements of the official
examples and on elements that lack something or have something of another."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.definitions.elements import Constraint
from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import load
from fhir_server.fhirpath import Context, FhirPathError, Node, compile
from fhir_server.formats.json import loads
from fhir_server.validation.rules.invariants import ELSEWHERE, ROWS, invariant

from .test_examples import INVALID, examples

# Left to FHIRPath evaluation: rules about definitions and test scripts, and those that
# resolve references or look at the whole of another structure.
WITHOUT_ROW = frozenset(
    """
    ctm-1 eld-2 eld-3 eld-4 eld-5 eld-6 eld-7 eld-8 eld-11 eld-12 eld-13 eld-14 eld-15 eld-16
    eld-17 eld-18 eld-19 eld-22 ig-1 ig-2 ppc-2 ppc-3 ppc-4 ppc-5
    sdf-1 sdf-3 sdf-5 sdf-8 sdf-8a sdf-8b sdf-9 sdf-10 sdf-11 sdf-14 sdf-15 sdf-15a sdf-16
    sdf-17 sdf-18 sdf-19 sdf-20 sdf-21 sdf-22 sdf-23
    tst-5 tst-6 tst-7 tst-8 tst-9 tst-10 tst-11 tst-12 tst-13
    """.split()  # noqa: SIM905
)
CAP = 53
MODEL = Context(model=r4_model())


# rng-2: FHIRPath takes a unit in words for UCUM; the row compares only what is coded.
LENIENT = frozenset({"rng-2"})

Pool = dict[str, dict[str, list[Any]]]
"""path of a type -> member -> values that it has somewhere."""


def constraints() -> Iterator[tuple[str, Constraint]]:
    for type_ in load().types.values():
        for path, element in type_.elements.items():
            yield from ((path, one) for one in element.constraints if one.severity == "error")


def test_every_invariant_has_a_row_or_a_reason() -> None:
    untested = {one.key for path, one in constraints() if invariant(path, one) is None}
    assert untested == WITHOUT_ROW | ELSEWHERE
    assert len(WITHOUT_ROW) <= CAP


def test_every_row_is_used() -> None:
    keys = {one.key for _, one in constraints()} | {f"{p}#{one.key}" for p, one in constraints()}
    assert ROWS.keys() <= keys


def constrained(resource: dict[str, Any]) -> Iterator[tuple[Node, str, Constraint]]:
    """Every object of the resource with the invariants that apply to it."""
    definitions = load()
    everything = compile("$this | descendants()").locate(resource, MODEL)
    for node in everything:
        path = node.property.path
        if not isinstance(node.value, dict) or not path:
            continue
        paths = [path] if "." in path else list(definitions.ancestors(path))
        reference = definitions.element(path).content_reference if "." in path else None
        for one in [reference] if reference else paths:
            for constraint in definitions.element(one).constraints:
                if invariant(one, constraint) is not None:
                    yield node, one, constraint


def variants(
    node: Node, pool: dict[str, list[tuple[str, Any]]], chooser: random.Random
) -> Iterator[None]:
    """The object as it is, with something left out, with something of another; in place."""
    value = node.value
    before = dict(value)
    yield
    members = load().members(node.property.path)
    spare = [k for k in before if k not in members or not members[k][0].min]
    for key in chooser.sample(spare, min(2, len(spare))):
        del value[key]
        yield
        value.clear()
        value.update(before)
    others = pool[node.property.path]
    for key in chooser.sample(sorted(others), min(6, len(others))):
        value[key] = chooser.choice(others[key])
        yield
        value.clear()
        value.update(before)


def compare(files: list[Path], flip: bool = False) -> tuple[Counter[str], Counter[str], list[str]]:
    """How often each key was judged, how often it was broken, and where the two differ."""
    resources = [loads(file.read_bytes()) for file in files]
    found = [(r, list(constrained(r))) for r in resources]
    pool: Pool = defaultdict(lambda: defaultdict(list))
    for _, rows in found:
        for node, _, _ in rows:
            for key, value in node.value.items():
                pool[node.property.path][key].append(value)
    chooser = random.Random(1)
    judged: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    wrong: list[str] = []
    for _, rows in found:
        for node, path, constraint in rows:
            if judged[constraint.key] > 400:
                continue
            row = invariant(path, constraint)
            assert row is not None
            for _ in variants(node, pool, chooser):
                try:
                    expected = compile(constraint.expression).truth(node, MODEL)
                except FhirPathError:
                    continue  # the variant has two of a choice, say
                judged[constraint.key] += 1
                broken[constraint.key] += expected is False
                if constraint.key in LENIENT and expected is False and not flip:
                    continue
                wanted = (expected is not False) is not flip
                if row.test(node.value) is not wanted:
                    said = f"FHIRPath {expected}: {str(node.value)[:300]}"
                    wrong.append(f"{constraint.key} at {node.path}: {said}")
    return judged, broken, wrong


@pytest.mark.slow
def test_rows_agree_with_fhirpath(shared: Path) -> None:
    files = [f for f in examples(shared) if f.stem not in INVALID and f.stat().st_size < 40_000]
    judged, broken, wrong = compare(files)
    print(f"{judged.total()} judgements of {len(judged)} invariants, {len(+broken)} broken")
    assert wrong == []
    assert len(judged) >= 60
    assert len(+broken) >= 40


def test_flipped_expectations_go_red(shared: Path) -> None:
    files = [f for f in examples(shared) if f.name.startswith("Condition-")]
    judged, _, wrong = compare(files, flip=True)
    assert len(wrong) == judged.total() > 20
