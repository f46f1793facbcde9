"""Valid bases from which invalid resources depart (``invalid.py``)."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
Case = tuple[str, Json, str, str | None]
"""Title, resource, issue code, FHIRPath expression."""

XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
DAR = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
CODE: Json = {"text": "x"}


def patient(**more: Any) -> Json:
    return {"resourceType": "Patient", **more}


def observation(**more: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": CODE, **more}


def narrative(div: str) -> Json:
    return patient(text={"status": "generated", "div": div})


def valued(kind: str, value: Any) -> Json:
    """An extension with a value of any type: value[x] has them all."""
    return patient(extension=[{"url": "http://example.org/x", f"value{kind}": value}])


def contained(inner: Json, **more: Any) -> Json:
    return observation(contained=[inner], **more)


def bundle(type_: str, *entries: Json, **more: Any) -> Json:
    return {"resourceType": "Bundle", "type": type_, "entry": list(entries), **more}


def nested_extension(levels: int) -> Json:
    extension: Json = {"url": "leaf", "valueString": ""}
    for _ in range(levels):
        extension = {"url": "http://example.org/x", "extension": [extension]}
    return patient(extension=[extension])
