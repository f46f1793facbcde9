"""Invariants of clinical resources."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fhir_server.model.exchange import Json

from ..dates import later
from .values import UCUM, Test, chosen, coded, every, has

_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def _in_error(resource: Json, system: str) -> bool:
    return coded(every(resource, "verificationStatus"), system, "entered-in-error")


def _component_codes(observation: Json) -> bool:
    """The value of a panel is not the value of one of its components."""
    if "component" not in observation or not chosen(observation, "value"):
        return True
    codings = every(observation, "code", "coding")
    return not any(c in codings for c in every(observation, "component", "code", "coding"))


def _percentage(range_: Json) -> bool:
    """Both ends of probabilityRange are percentages."""
    return all(
        bound.get("code") == "%" and bound.get("system") == UCUM
        for bound in every(range_, "low") + every(range_, "high")
    )


def _in_order(first: str, second: str) -> Test:
    """The date ``second``, if both are there, is not before ``first``."""

    def test(resource: Json) -> bool:
        early, late = resource.get(first), resource.get(second)
        return early is None or late is None or not later(early, late)

    return test


_SOURCES = ("genomeBuild", "referenceSeqId", "referenceSeqPointer", "referenceSeqString")

ROWS: Mapping[str, Test] = MappingProxyType(
    {
        "ait-1": lambda r: has(r, "clinicalStatus") or _in_error(r, _ALLERGY),
        "ait-2": lambda r: not (has(r, "clinicalStatus") and _in_error(r, _ALLERGY)),
        "con-1": lambda s: has(s, "summary", "assessment"),
        "con-2": lambda e: has(e, "code", "detail"),
        "con-4": lambda r: (
            not chosen(r, "abatement")
            or coded(every(r, "clinicalStatus"), _CONDITION, "resolved", "remission", "inactive")
        ),
        "con-5": lambda r: not (has(r, "clinicalStatus") and _in_error(r, _VERIFIED)),
        "cpl-3": lambda a: not (has(a, "detail") and has(a, "reference")),
        "fhs-1": lambda r: not (chosen(r, "age") and chosen(r, "born")),
        "fhs-2": lambda r: chosen(r, "age") or not has(r, "estimatedAge"),
        "gol-1": lambda t: not chosen(t, "detail") or has(t, "measure"),
        "imm-1": lambda e: has(e, "documentType", "reference"),
        "imr-1": lambda r: has(r, "vaccineCode", "targetDisease"),
        "mad-1": lambda d: has(d, "dose") or chosen(d, "rate"),
        "mdd-1": _in_order("whenPrepared", "whenHandedOver"),
        "msq-3": lambda r: r.get("coordinateSystem") in (0, 1),
        "msq-5": lambda s: has(s, "chromosome") == has(s, "genomeBuild"),
        "msq-6": lambda s: sum(has(s, name) for name in _SOURCES) == 1,
        "obs-3": lambda r: has(r, "low", "high", "text"),
        "obs-6": lambda r: not (has(r, "dataAbsentReason") and chosen(r, "value")),
        "obs-7": _component_codes,
        "prr-1": lambda r: has(r, "code") or not has(r, "orderDetail"),
        "qrs-1": lambda i: not (has(i, "answer") and has(i, "item")),
        "ras-1": _percentage,
        "ras-2": lambda p: p.get("probabilityDecimal", 0) <= 100,
        "rqg-1": lambda a: has(a, "resource") != has(a, "action"),
        "sev-1": lambda e: not (has(e, "name") and has(e, "query")),
        "Task#inv-1": _in_order("authoredOn", "lastModified"),
    }
)
