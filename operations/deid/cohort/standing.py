"""Whose a resource is, for a cohort: of one patient, lent to some, of several, or of nobody."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from fhir_server.model.exchange import Json
from operations.deid.elements import Elements
from operations.deid.people import references_in
from operations.deid.run import Run
from operations.deid.subjects import subject_of

LENT: Final = frozenset(
    {"BiologicallyDerivedProduct", "Device", "DeviceMetric", "Medication", "Substance"}
)
"""What names no patient itself, but tells of those whose resources refer to it."""
PROVIDERS: Final = frozenset(
    {"Endpoint", "HealthcareService", "InsurancePlan", "Location", "Organization"}
    | {"OrganizationAffiliation", "Practitioner", "PractitionerRole"}
)
"""What tells of no patient."""


class Standing(NamedTuple):
    """``owner``: a patient, or a lent resource itself, as a number; None: nobody's, so that of it
    only what many share is shown. ``lends``: lent resources that are referred to. ``judged``: false
    of what tells of no patient."""

    owner: int | None
    lends: frozenset[int]
    judged: bool = True


_NOBODY: Final = Standing(None, frozenset(), judged=False)


def standing(resource: Json, run: Run, elements: Elements) -> Standing:
    """Of a resource before it is de-identified."""
    type_ = str(resource.get("resourceType"))
    if type_ in PROVIDERS or {"publisher", "url", "status"} <= elements.fields(type_).keys():
        return _NOBODY
    subject = subject_of(resource, run)
    if subject.startswith("Patient/"):
        lends = frozenset(number(key) for key in _lends(resource, run))
        return Standing(number(subject), lends)
    return Standing(number(subject) if type_ in LENT else None, frozenset())


def number(key: str) -> int:
    """``Patient/1`` as 63 bits."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) >> 1


def _lends(resource: Json, run: Run) -> Iterator[str]:
    return (key for key in references_in(resource, run) if key.partition("/")[0] in LENT)
