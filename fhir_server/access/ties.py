"""Whose record a Provenance belongs to: the patient of what it is about.

R4 has a Provenance in a patient's compartment only where the Patient itself is its target. Those of
the rest of a record are tied to it by the element that R5 has for it, which the server writes as an
extension of ``meta``: https://hl7.org/fhir/R5/provenance-definitions.html#Provenance.patient.
What a client wrote stays as it is; history, copies and indexes made anew know it too.
"""

from __future__ import annotations

from typing import Final

from fhir_server.model.exchange import Json
from fhir_server.search.plan import Not, Predicate, Present
from fhir_server.search.values import IndexValues, ReferenceValue

PROVENANCE: Final = "Provenance"
EXTENSION: Final = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient"
TIED: Final = "_tied"
"""The index of that reference. Not a search parameter."""
UNTIED: Final[Predicate] = Not(Present(TIED, "reference"))


def tie(provenance: Json, values: IndexValues) -> None:
    """Puts the index values into the compartment that the extension names."""
    for extension in provenance.get("meta", {}).get("extension", ()):
        if extension.get("url") != EXTENSION:
            continue
        type_, _, id_ = extension.get("valueReference", {}).get("reference", "").partition("/")
        if type_ == "Patient" and id_:
            values.references.append(ReferenceValue(TIED, type_, id_, "", ""))
            values.patients = tuple(dict.fromkeys((*values.patients, id_)))


def with_patient(provenance: Json, patient: str | None) -> Json:
    """With this extension and no other of its kind: what a client says is not believed."""
    meta = provenance.get("meta", {})
    given = meta.get("extension", [])
    kept = [one for one in given if not isinstance(one, dict) or one.get("url") != EXTENSION]
    if patient is not None:
        reference = {"reference": f"Patient/{patient}"}
        kept.append({"url": EXTENSION, "valueReference": reference})
    if kept == given:
        return provenance
    rest = {name: value for name, value in meta.items() if name != "extension"}
    return {**provenance, "meta": {**rest, **({"extension": kept} if kept else {})}}
