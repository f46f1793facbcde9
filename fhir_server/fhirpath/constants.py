"""``%name``: http://hl7.org/fhirpath/N1/#environment-variables,
https://hl7.org/fhir/R4/fhirpath.html#vars"""

from __future__ import annotations

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.node import Collection, Node, root

CONSTANTS = {
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
    "ucum": "http://unitsofmeasure.org",
}
PREFIXES = {
    "vs-": "http://hl7.org/fhir/ValueSet/",
    "ext-": "http://hl7.org/fhir/StructureDefinition/",
}


def constant(name: str, run: Run) -> Collection:
    """The value of ``%name``. Raises FhirPathError when there is none."""
    if name in run.variables:
        return run.variables[name]
    if name == "context":
        return [run.subject]
    if name == "resource":
        return [resource_of(run.subject) if run.subject.parent else run.root]
    if name == "rootResource":
        return [run.root]
    if name in run.context.constants:
        given = run.context.constants[name]
        values = given if isinstance(given, list) else [given]
        return [root(v) if isinstance(v, dict) else v for v in values]
    if name in CONSTANTS:
        return [CONSTANTS[name]]
    for prefix, base in PREFIXES.items():
        if name.startswith(prefix):
            return [base + name.removeprefix(prefix)]
    raise FhirPathError(f"Unknown constant %{name}")


def resource_of(node: Node) -> Node:
    """The nearest resource that holds an element."""
    while node.parent is not None and not _is_resource(node):
        node = node.parent
    return node


def _is_resource(node: Node) -> bool:
    return isinstance(node.value, dict) and "resourceType" in node.value
