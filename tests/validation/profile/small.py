"""Small profiles, and resources that are held against them."""

from __future__ import annotations

from typing import Any

from tests.validation.profile.world import World

Json = dict[str, Any]
BASE = "http://hl7.org/fhir/StructureDefinition/"
URL = "http://example.org/StructureDefinition/own"
LOINC = "http://loinc.org"


def element(id_: str, **rules: Any) -> Json:
    """The path is the id without slice names."""
    path = ".".join(step.partition(":")[0] for step in id_.split("."))
    name = id_.rpartition(".")[2].partition(":")[2]
    return {"id": id_, "path": path, **({"sliceName": name} if name else {}), **rules}


def profile(type_: str, *elements: Json, url: str = URL, **more: Any) -> Json:
    return {
        "resourceType": "StructureDefinition",
        "url": url,
        "type": type_,
        "derivation": "constraint",
        "baseDefinition": BASE + type_,
        "differential": {"element": [*elements]},
        **more,
    }


def found(world: World, resource: Json, severity: str = "error") -> list[tuple[str, str]]:
    issues = world.issues(resource, URL)
    return [(i.code, i.expression or "") for i in issues if i.severity == severity]


def observation(**members: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **members}


def sliced(path: str, kind: str, at: str, **more: Any) -> Json:
    return element(path, slicing={"discriminator": [{"type": kind, "path": at}]} | more)


def coding(code: str, system: str = LOINC) -> Json:
    return {"system": system, "code": code}


def concept(code: str) -> Json:
    return {"coding": [coding(code)]}


CATEGORY = "Observation.category"


def entry(resource: Json, id_: str) -> Json:
    return {
        "fullUrl": f"http://example.org/fhir/{resource['resourceType']}/{id_}",
        "resource": resource,
    }


NAMED = profile("Patient", element("Patient.name", min=1), url="urn:named")


def bundle(*entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": "collection", "entry": [*entries]}


SUBJECT = "Observation.subject"


def target(*urls: str, **more: Any) -> Json:
    return element(SUBJECT, type=[{"code": "Reference", "targetProfile": [*urls], **more}])
