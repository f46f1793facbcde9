"""Value sets that code systems define by the form of a url, without a resource.

SNOMED CT: https://hl7.org/fhir/R4/snomedct.html#implicit; LOINC:
https://hl7.org/fhir/R4/loinc.html#implicit. Reference sets and expressions are refused by name.
"""

from __future__ import annotations

import re
from typing import Any, Final

from terminology.service import Json, Refused

SNOMED: Final = "http://snomed.info/sct"
LOINC: Final = "http://loinc.org"
_SNOMED: Final = re.compile(
    rf"({re.escape(SNOMED)}(?:/\d+(?:/version/\d{{8}})?)?)\?fhir_vs(?:=(.*))?"
)
_IS_A: Final = re.compile(r"isa/(\d{6,18})")
_LOINC: Final = re.compile(rf"{re.escape(LOINC)}/vs(?:/(L[LP]\d+-\d))?", re.IGNORECASE)


def implied(url: str) -> Json | None:
    """The value set that the url stands for; None: it is none of these. Raises Refused."""
    found = _SNOMED.fullmatch(url)
    if found is not None:
        edition, rest = found[1], found[2]
        part: dict[str, Any] = {"system": SNOMED}
        if "/version/" in edition:
            part["version"] = edition
        if rest is not None:
            part["filter"] = [_within(url, rest)]
        return _value_set(url, part)
    found = _LOINC.fullmatch(url)
    if found is None:
        return None
    part = {"system": LOINC}
    if found[1]:
        code, is_list = found[1].upper(), found[1].upper().startswith("LL")
        operator = "descendent-of" if is_list else "is-a"
        part["filter"] = [{"property": "concept", "op": operator, "value": code}]
    return _value_set(url, part)


def _within(url: str, rest: str) -> Json:
    is_a = _IS_A.fullmatch(rest)
    if is_a is None:
        text = f"{url[:200]}: only ?fhir_vs and ?fhir_vs=isa/ are supported"
        raise Refused("not-supported", text)
    return {"property": "concept", "op": "is-a", "value": is_a[1]}


def _value_set(url: str, part: Json) -> Json:
    return {
        "resourceType": "ValueSet",
        "url": url,
        "status": "active",
        "compose": {"include": [part]},
    }
