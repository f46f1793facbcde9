"""Searches in a compartment: https://hl7.org/fhir/R4/compartmentdefinition.html"""

from __future__ import annotations

from fhir_server.search.plan import All, Any, IdIn, InPatient, Predicate, ReferenceIs
from fhir_server.search.schema import SearchSchema


def compartment_types(schema: SearchSchema, code: str) -> tuple[str, ...]:
    """The types that a compartment may hold; none where ``code`` is not a compartment."""
    if code not in schema.definitions.compartments:
        return ()
    return tuple(sorted(schema.definitions.compartment(code)))


def in_compartment(schema: SearchSchema, code: str, id: str, type: str) -> Predicate:
    """The resources of ``type`` that a parameter of the compartment ties to ``code``/``id``."""
    parts: list[Predicate] = []
    parameters = schema.of(type).parameters
    for name in schema.definitions.compartment(code)[type]:
        if name == "_id":
            parts.append(IdIn((id,)))
        elif name in parameters:
            parts += [ReferenceIs(index, code, id) for index in parameters[name].indexes]
    found: Predicate = parts[0] if len(parts) == 1 else Any(tuple(parts))
    if code != "Patient":
        return found
    # The list of the compartment is one; the references say what a policy may ask about.
    return All((InPatient((id,)), found))
