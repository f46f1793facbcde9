"""The official FHIRPath suite as cases (tests-fhir-r4.xml), and how one is judged."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import (
    Context,
    FhirPathBudgetError,
    FhirPathError,
    FhirPathNotSupported,
    Services,
    compile,
)
from fhir_server.fhirpath.node import Item, Node, root
from fhir_server.fhirpath.operators import boolean
from fhir_server.fhirpath.values import Date, DateTime, Time, type_name
from fhir_server.formats.json import loads

from .xml_to_json import read

_PROFILES = "http://hl7.org/fhir/StructureDefinition/"


@dataclass(frozen=True)
class Case:
    """``outputs``: (type or None, text). ``invalid``: must raise. ``predicate``: as a boolean."""

    group: str
    name: str
    expression: str
    input: str | None
    outputs: tuple[tuple[str | None, str], ...]
    invalid: bool
    strict: bool
    predicate: bool
    ordered: bool

    @property
    def id(self) -> str:
        return f"{self.group}/{self.name}"


def cases(file: Path) -> list[Case]:
    """Every test of the suite; a name that repeats in its group gets a number."""
    found = []
    seen: dict[str, int] = {}
    for group in ElementTree.parse(file).getroot().iter("group"):
        for test in group.findall("test"):
            case = _case(group.get("name", ""), test)
            seen[case.id] = seen.get(case.id, 0) + 1
            if seen[case.id] > 1:
                case = Case(**{**case.__dict__, "name": f"{case.name}#{seen[case.id]}"})
            found.append(case)
    return found


def _case(group: str, test: ElementTree.Element) -> Case:
    expression = test.find("expression")
    assert expression is not None
    return Case(
        group=group,
        name=test.get("name", ""),
        expression=expression.text or "",
        input=test.get("inputfile"),
        outputs=tuple((o.get("type"), o.text or "") for o in test.findall("output")),
        invalid=expression.get("invalid") is not None,
        strict="strict" in (test.get("mode"), expression.get("mode"))
        or expression.get("invalid") == "semantic",
        predicate=test.get("predicate") == "true",
        ordered=test.get("ordered") != "false",
    )


def judge(case: Case, folder: Path) -> str | None:
    """What is wrong with the engine's answer, None when nothing is."""
    try:
        items = _evaluate(case, folder)
    except (FhirPathNotSupported, FhirPathBudgetError) as error:
        return f"raised {type(error).__name__}: {error}"
    except FhirPathError as error:
        return None if case.invalid else f"raised {type(error).__name__}: {error}"
    if case.invalid:
        return f"should fail, gave {[_text(item) for item in items]}"
    actual = [(_type(item), _text(item)) for item in items]
    expected = list(case.outputs)
    if not case.ordered:
        actual, expected = sorted(actual), sorted(expected, key=lambda o: (o[0] or "", o[1]))
    same = len(actual) == len(expected) and all(
        text == wanted and type_ in (None, kind)
        for (kind, text), (type_, wanted) in zip(actual, expected, strict=True)
    )
    return None if same else f"gave {actual}, expected {expected}"


def _evaluate(case: Case, folder: Path) -> list[Item]:
    subject = _subject(folder / case.input) if case.input else root({})
    context = Context(
        model=r4_model(),
        services=Services(conforms_to=_conforms_to),
        now=lambda: datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
        strict=case.strict,
    )
    items = compile(case.expression).items(subject, context)
    return [boolean(items, "predicate") is True] if case.predicate else items


@cache
def _subject(file: Path) -> Node:
    if file.suffix == ".json":
        return root(loads(file.read_bytes()))
    return root(read(file))


def _conforms_to(value: Any, profile: str) -> bool:
    type_ = profile.removeprefix(_PROFILES)
    if not profile.startswith(_PROFILES) or not r4_model().is_type(type_):
        raise ValueError(f"Unknown profile {profile}")
    return bool(value["resourceType"] == type_)


def _type(item: Item) -> str:
    if isinstance(item, Node) and item.type:
        return item.type
    name = type_name(item.value if isinstance(item, Node) else item)
    return name if name == "Quantity" else name[0].lower() + name[1:]


def _text(item: Item) -> str:
    value = item.system if isinstance(item, Node) else item
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Date | DateTime):
        return f"@{value}"
    if isinstance(value, Time):
        return f"@T{value}"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
