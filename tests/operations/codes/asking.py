"""Code systems, value sets and maps made for the tests, and how to ask about them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tests.serving import Server

Json = dict[str, Any]
KINDS = "http://example.org/CodeSystem/kinds"
SETS = "http://example.org/ValueSet/"
MAPS = "http://example.org/ConceptMap/"
SCT = "http://snomed.info/sct"

CODE_SYSTEM: Json = {
    "resourceType": "CodeSystem",
    "id": "kinds",
    "url": KINDS,
    "version": "2",
    "name": "Kinds",
    "language": "en",
    "status": "active",
    "content": "complete",
    "caseSensitive": True,
    "property": [
        {"code": "mild", "type": "boolean"},
        {"code": "organ", "type": "string"},
        {"code": "off", "uri": "http://hl7.org/fhir/concept-properties#inactive",
         "type": "boolean"},
        {"code": "group", "uri": "http://hl7.org/fhir/concept-properties#notSelectable",
         "type": "boolean"},
    ],
    "concept": [
        {
            "code": "disease",
            "display": "Disease",
            "property": [{"code": "group", "valueBoolean": True}],
            "concept": [
                {
                    "code": "heart",
                    "display": "Heart disease",
                    "definition": "Of the heart",
                    "designation": [
                        {"language": "de-AT", "value": "Herzkrankheit"},
                        {"use": {"system": "urn:use", "code": "short"}, "value": "HD"},
                    ],
                    "property": [{"code": "organ", "valueString": "heart"}],
                    "concept": [
                        {"code": "infarct", "display": "Infárct of the heart"},
                        {
                            "code": "dropsy",
                            "display": "Dropsy",
                            "property": [{"code": "off", "valueBoolean": True}],
                        },
                    ],
                },
                {
                    "code": "lung",
                    "display": "Lung disease",
                    "property": [
                        {"code": "mild", "valueBoolean": True},
                        {"code": "organ", "valueString": "lung"},
                    ],
                },
            ],
        },
        {
            "code": "pneumonia",
            "display": "Pneumonia",
            "property": [{"code": "parent", "valueCode": "lung"}],
        },
    ],
}  # fmt: skip


def value_set(*include: Json, exclude: tuple[Json, ...] = (), **more: Any) -> Json:
    compose: Json = {"include": [*include]}
    if exclude:
        compose["exclude"] = [*exclude]
    return {
        "resourceType": "ValueSet",
        "url": f"{SETS}given",
        "status": "active",
        "compose": compose,
    } | more


def of(filter_: tuple[str, str, str], *further: tuple[str, str, str]) -> Json:
    rows = [{"property": p, "op": op, "value": v} for p, op, v in (filter_, *further)]
    return {"system": KINDS, "filter": rows}


def put(server: Server, *resources: Json) -> None:
    for resource in resources:
        answer = server.put(f"{resource['resourceType']}/{resource['id']}", resource)
        assert answer.status_code in (200, 201), answer.text


def get(server: Server, where: str, status: int = 200, **parameters: Any) -> Json:
    text = {k: str(v).lower() if isinstance(v, bool) else v for k, v in parameters.items()}
    answer = server.get(f"{where}?{urlencode(text, doseq=True)}")
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def post(server: Server, where: str, *parameter: Json, status: int = 200) -> Json:
    body = {"resourceType": "Parameters", "parameter": [*parameter]}
    answer = server.post(where, body)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def values(parameters: Json) -> Json:
    """The simple outputs by name."""
    return {
        part["name"]: value
        for part in parameters["parameter"]
        for member, value in part.items()
        if member.startswith("value")
    }


def codes(expanded: Json) -> list[str]:
    return [one["code"] for one in expanded["expansion"].get("contains", [])]


def refusal(outcome: Json) -> tuple[str, str]:
    (issue,) = outcome["issue"]
    return issue["code"], issue["diagnostics"]
