"""What of a de-identified record goes into the bank, and why the rest does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem

ERROR: Final = "entered-in-error"
_STATUS: Final = ("status", "verificationStatus", "clinicalStatus")
_OWN: Final = frozenset({"id", "meta", "identifier", "text"})
"""Elements by which two resources that say the same may differ."""

FACTS: Final = frozenset(
    {"AllergyIntolerance", "Condition", "FamilyMemberHistory", "Immunization", "Observation"}
    | {"MedicationAdministration", "MedicationStatement", "Procedure"}
)
"""Types of which the same said twice counts twice in a study; of others nothing refers amiss."""

REASONS: Final = {
    "several-patients": "it is about several patients, or about none by name",
    "entered-in-error": "it was entered in error",
    "duplicate": "the record says the same twice",
    "invalid": "it is not valid once it is de-identified",
}


@dataclass(slots=True)
class Quality:
    """Counts by resource type: what was read, what was loaded, what was left out and why."""

    read: Counter[str] = field(default_factory=Counter)
    loaded: Counter[str] = field(default_factory=Counter)
    left: dict[str, Counter[str]] = field(default_factory=dict)

    def leave(self, type_: str, reason: str) -> None:
        self.left.setdefault(reason, Counter())[type_] += 1

    def to_json(self) -> Json:
        left = {reason: dict(counts) for reason, counts in sorted(self.left.items())}
        return {"read": dict(self.read), "loaded": dict(self.loaded), "left": left}


class Sieve:
    """Of one patient's record, before it is de-identified: only there it is seen whether two
    resources say the same."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def fault(self, resource: Json) -> str:
        """Why the bank does not want it, "" if it does."""
        if any(ERROR in _codes(resource.get(name)) for name in _STATUS):
            return "entered-in-error"
        if resource["resourceType"] not in FACTS:
            return ""
        said = {name: value for name, value in resource.items() if name not in _OWN}
        digest = blake2b(dumps(said), digest_size=16).digest()
        if digest in self._seen:
            return "duplicate"
        self._seen.add(digest)
        return ""


def valid(
    resources: Iterable[Json], validate: Callable[[Json], None], quality: Quality
) -> list[Json]:
    """What is valid once it is de-identified. ``validate`` raises a Problem."""
    kept: list[Json] = []
    for resource in resources:
        try:
            validate(resource)
        except Problem:
            quality.leave(resource["resourceType"], "invalid")
        else:
            quality.loaded[resource["resourceType"]] += 1
            kept.append(resource)
    return kept


def _codes(value: object) -> list[object]:
    """Of a code, or of a CodeableConcept."""
    if isinstance(value, dict):
        return [coding.get("code") for coding in value.get("coding", ())]
    return [value]
