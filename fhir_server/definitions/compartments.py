"""Compartments: https://hl7.org/fhir/R4/compartmentdefinition.html

A compartment says for each resource type which reference parameters tie a resource to it.
The compartment's own resource is a member of itself: that is written as ``_id``, where the
published table says ``{def}`` or, for some types, nothing.
"""

from __future__ import annotations

from fhir_server.model.exchange import Json

_SELF = "{def}"


def compile_compartment(definition: Json) -> tuple[str, dict[str, tuple[str, ...]]]:
    """(code, type -> parameter codes); a type without parameters is not in the compartment."""
    code = definition["code"]
    members: dict[str, tuple[str, ...]] = {}
    for row in sorted(definition["resource"], key=lambda r: str(r["code"])):
        parameters = [p for p in row.get("param", ()) if p != _SELF]
        if row["code"] == code:
            parameters.insert(0, "_id")
        if parameters:
            members[row["code"]] = tuple(parameters)
    members.setdefault(code, ("_id",))
    return code, members
