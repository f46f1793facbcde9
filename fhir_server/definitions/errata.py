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
)
