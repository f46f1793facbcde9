"""Examples are valid against the profiles that they claim, but for a named few."""

from __future__ import annotations

from pathlib import Path

from fhir_server.formats.json import loads
from tests.validation.profile.world import examples, guides
from tests.validation.test_examples import INVALID as UNSOUND

# name -> (reason, where it is written that this is wrong).
GUIDE_FAULTS = {
    "validation-oo.json": (
        "a report of the publisher's: OperationOutcomes without an issue (1..*)",
        "https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue",
    ),
}
GUIDE_CAP = 1
"""May only shrink."""

FAULTS = {
    "Observation-example-genetics-brcapat": (
        "race and ethnicity of a Patient as codes on an Observation",
        "http://hl7.org/fhir/us/core/StructureDefinition-us-core-ethnicity.html",
    ),
}
CAP = 1


def test_the_lists_only_shrink() -> None:
    assert len(GUIDE_FAULTS) <= GUIDE_CAP and len(FAULTS) <= CAP


def test_every_example_of_the_guides(shared: Path) -> None:
    world, count, wrong = guides(shared), 0, []
    for name, resource in examples(shared):
        count += 1
        found = world.errors(resource)
        if bool(found) != (name.rpartition("/")[2] in GUIDE_FAULTS):
            wrong.append(f"{name}: {[(i.expression, i.diagnostics) for i in found[:3]]}")
    assert count >= 238
    assert wrong == [], "\n".join(wrong)


def test_every_official_example(shared: Path) -> None:
    """Those that claim a profile, and all against the bindings and extensions of their type."""
    world, wrong = guides(shared), []
    for file in sorted((shared / "conformance" / "examples").glob("*.json")):
        resource = loads(file.read_bytes())
        found = world.errors(resource)
        if bool(found) != (file.stem in UNSOUND or file.stem in FAULTS):
            wrong.append(f"{file.name}: {[(i.expression, i.diagnostics) for i in found[:3]]}")
    assert wrong == [], "\n".join(wrong)
