"""Errors in the published R4 (4.0.1) definitions that the compiled artefact corrects.

Each row must change something: the compiler fails when a row no longer applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Erratum:
    """``kind`` and ``subject`` name what is wrong: the type of an element (path), an invariant
    (key) or the expression of a search parameter (id)."""

    kind: Literal["type", "constraint", "search"]
    subject: str
    correction: str
    reason: str
    source: str


_NAME_CONSTRAINTS = (
    "adf-0", "cid-0", "cmd-0", "cpb-0", "cpd-0", "csd-0", "ees-0", "esc-0", "evd-0", "evi-0",
    "evv-0", "gdf-0", "ig-0", "lib-0", "mea-0", "msd-0", "nsd-0", "opd-0", "pdf-0", "que-0",
    "red-0", "rsd-0", "rvs-0", "sdf-0", "smp-0", "spd-0", "tcp-0", "tst-0", "vsd-0",
)  # fmt: skip

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        "type",
        "Resource.id",
        "id",
        "The extension fhir-type says string, which would accept any text as an id",
        "https://hl7.org/fhir/R4/resource.html (id: type id)",
    ),
    Erratum(
        "constraint",
        "app-4",
        "Appointment.cancelationReason.exists() implies "
        "(Appointment.status='noshow' or Appointment.status='cancelled')",
        "The code in appointmentstatus is noshow, not no-show",
        "https://hl7.org/fhir/R4/valueset-appointmentstatus.html; corrected in R5",
    ),
    Erratum(
        "constraint",
        "bdl-8",
        "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
        "Without a fullUrl the published expression is empty, so the entry would fail",
        "https://hl7.org/fhir/R5/bundle.html#bdl-8",
    ),
    Erratum(
        "constraint",
        "tim-9",
        "offset.empty() or (when.exists() and when.select($this in ('C' | 'CM' | 'CD' | 'CV'))"
        ".allFalse())",
        "when repeats, and the left side of `in` must be a single item",
        "https://hl7.org/fhirpath/N1/#in-membership; corrected in R5",
    ),
    Erratum(
        "constraint",
        "que-7",
        "operator = 'exists' implies (answer is boolean)",
        "A FHIR element is a boolean (FHIR), never a Boolean (System)",
        "https://hl7.org/fhir/R5/questionnaire.html#que-7",
    ),
    Erratum(
        "constraint",
        "con-3",
        "clinicalStatus.exists() or verificationStatus.coding.where(system="
        "'http://terminology.hl7.org/CodeSystem/condition-ver-status' and "
        "code = 'entered-in-error').exists() or category.coding.where(system="
        "'http://terminology.hl7.org/CodeSystem/condition-category' and "
        "code = 'problem-list-item').empty()",
        "A CodeableConcept is compared with a string, and the select is never empty",
        "https://hl7.org/fhir/R4/condition.html#con-3 (the text of the invariant)",
    ),
    Erratum(
        "constraint",
        "dom-3",
        "contained.where((('#'+id in (%resource.descendants().reference | "
        "%resource.descendants().ofType(canonical) | %resource.descendants().ofType(uri) | "
        "%resource.descendants().ofType(url))) or descendants().where(reference = '#').exists() "
        "or descendants().where(ofType(canonical) = '#').exists() "
        "or descendants().where(ofType(uri) = '#').exists()).not()).trace('unmatched', id).empty()",
        "as() takes a single item and the descendants are many; canonical was asked twice",
        "https://hl7.org/fhir/R5/domainresource.html#dom-3",
    ),
    Erratum(
        "constraint",
        "ref-1",
        "reference.exists() implies (reference.startsWith('#').not() or "
        "(reference.substring(1).trace('url') in %rootResource.contained.id.trace('ids')) or "
        "(reference='#' and %rootResource!=%resource))",
        "Empty, so broken, for a Reference with an identifier or display alone; and '#' is how "
        "a contained resource refers to its container",
        "https://hl7.org/fhir/R5/references.html#ref-1",
    ),
    Erratum(
        "constraint",
        "ras-2",
        "probability.exists() implies "
        "(probability is decimal implies (probability as decimal) <= 100)",
        "Empty, so broken, for a prediction without a probability, which is optional",
        "https://hl7.org/fhir/R4/riskassessment-example-prognosis.json.html (an official example)",
    ),
    Erratum(
        "constraint",
        "md-1",
        "max.exists() implies (max='*' or (max.toInteger() > 0))",
        "Empty, so broken, for a focus without max, which is optional",
        "https://hl7.org/fhir/R4/messagedefinition-definitions.html#MessageDefinition.focus.max",
    ),
    Erratum(
        "search",
        "InsurancePlan-name",
        "InsurancePlan.name | InsurancePlan.alias",
        "The only expression that does not start with a type, so that it names no base",
        "https://hl7.org/fhir/R4/insuranceplan.html#search",
    ),
    *(
        Erratum(
            "constraint",
            key,
            "name.exists() implies name.matches('[A-Z]([A-Za-z0-9_]){0,254}')",
            "Empty, so broken, for a definition without a name",
            "https://hl7.org/fhir/R5/metadataresource.html (cnl-0)",
        )
        for key in _NAME_CONSTRAINTS
    ),
)
