"""Case 40: case matters in a token where its code system says so, and nowhere else.

https://hl7.org/fhir/R4/search.html#token: "Match is case sensitive unless the underlying semantics
for the context indicate that the token should be interpreted case-insensitively ... When in doubt,
servers SHOULD treat tokens in a case-insensitive manner".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .searching import Both, both

STRICT, LOOSE, SILENT, UNKNOWN = (f"http://example.org/{n}" for n in ("S", "L", "M", "U"))
CLASS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def code_system(id: str, url: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "CodeSystem", "id": id, "url": url, "status": "active",
            "content": "not-present", **more}  # fmt: skip


def observation(id: str, system: str, code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": system, "code": code}]},
        "component": [
            {"code": {"coding": [{"system": system, "code": code}]},
             "valueQuantity": {"value": 5, "system": "http://unitsofmeasure.org", "code": "mg"}}
        ],
        **more,
    }  # fmt: skip


RECORD: list[dict[str, Any]] = [
    code_system("strict", STRICT, caseSensitive=True),
    code_system("loose", LOOSE, caseSensitive=False),
    code_system("silent", SILENT),
    {
        "resourceType": "Patient",
        "id": "p",
        "identifier": [
            {"system": "urn:oid:1.2", "value": "AB-1", "type": {"coding": [{"code": "MR"}]}}
        ],
        "telecom": [{"system": "email", "value": "Olena@Example.org"}],
    },
    *(
        observation(f"{name}-{at}", system, code)
        for name, system in (("s", STRICT), ("l", LOOSE), ("m", SILENT), ("u", UNKNOWN))
        for at, code in enumerate(("HGB", "hgb", "Hgb"))
    ),
    {
        "resourceType": "Encounter",
        "id": "e",
        "status": "finished",
        "class": {"system": CLASS, "code": "AMB"},
        "subject": {"identifier": {"system": "urn:MRN", "value": "Ab9"}},
    },
    {
        "resourceType": "ValueSet",
        "id": "set",
        "url": "http://example.org/set",
        "status": "active",
        "compose": {
            "include": [
                {"system": STRICT, "concept": [{"code": "HGB"}]},
                {"system": LOOSE, "concept": [{"code": "HGB"}]},
            ]
        },
    },
]


def three(*names: str) -> set[str]:
    return {f"{name}-{at}" for name in names for at in range(3)}


EVERY = three("s", "l", "m", "u")

ROWS: list[tuple[str, set[str]]] = [
    (f"Observation?code={STRICT}|HGB", {"s-0"}),
    (f"Observation?code={STRICT}|hgb", {"s-1"}),
    (f"Observation?code={STRICT}|Hgb", {"s-2"}),
    (f"Observation?code={STRICT}|hGB", set()),
    (f"Observation?code={LOOSE}|HGB", three("l")),
    (f"Observation?code={LOOSE}|hgb", three("l")),
    (f"Observation?code={SILENT}|hGb", three("m")),
    (f"Observation?code={UNKNOWN}|hGb", three("u")),
    ("Observation?code=hGb", EVERY),  # of which system is in doubt
    ("Observation?code=hGc", set()),
    (f"Observation?code={STRICT}|HGB,{LOOSE}|hGB", {"s-0"} | three("l")),
    (f"Observation?code:not={STRICT}|HGB", EVERY - {"s-0"}),
    (f"Observation?code:not={UNKNOWN}|hGB", EVERY - three("u")),
    (f"Observation?code:not-in={'http://example.org/set'}", EVERY - {"s-0"} - three("l")),
    ("Observation?code:in=http://example.org/set", {"s-0"} | three("l")),
    (f"Observation?patient=p&code={UNKNOWN}|hgB", three("u")),
    (f"Observation?component-code-value-quantity={STRICT}|HGB$5", {"s-0"}),
    (f"Observation?component-code-value-quantity={LOOSE}|hGB$gt4", three("l")),
    (f"Observation?component-code-value-quantity={LOOSE}|hGB$gt6", set()),
    ("Observation?subject:Patient.identifier=urn:oid:1.2|ab-1&code=HGB", EVERY),
    (f"Patient?_has:Observation:subject:code={UNKNOWN}|hgB", {"p"}),
    (f"Patient?_has:Observation:subject:code={STRICT}|hGB", set()),
    (f'Observation?_filter=code eq "{STRICT}|HGB"', {"s-0"}),
    (f"Encounter?class={CLASS}|AMB", {"e"}),
    (f"Encounter?class={CLASS}|amb", set()),
    ("Encounter?class=amb", {"e"}),
    ("Encounter?status=finished", {"e"}),
    ("Encounter?status=FINISHED", set()),  # its system is the one that FHIR defines
    ("Encounter?subject:identifier=urn:MRN|aB9", {"e"}),
    ("Encounter?subject:identifier=urn:mrn|Ab9", set()),  # a system is a uri
    ("Patient?identifier=urn:oid:1.2|ab-1", {"p"}),
    ("Patient?identifier=AB-1", {"p"}),
    ("Patient?identifier=|AB-1", set()),
    ("Patient?email=olena@example.ORG", {"p"}),
    ("Patient?_id=P", set()),  # "matches on _id are always case sensitive"
]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("case")) as servers:
        servers.put(*RECORD)
        yield servers


@pytest.mark.parametrize(("query", "expected"), ROWS)
def test_c40_case(record: Both, query: str, expected: set[str]) -> None:
    assert record.found(query) == expected


def test_c40_a_code_system_counts_from_when_it_is_stored(tmp_path: Path) -> None:
    with both(tmp_path) as servers:
        servers.put(*(observation(f"o-{at}", STRICT, c) for at, c in enumerate(("AB", "ab"))))
        query = f"Observation?code={STRICT}|AB"
        assert servers.found(query) == {"o-0", "o-1"}
        servers.put(code_system("c", STRICT, caseSensitive=True))
        assert servers.found(query) == {"o-0"}
        servers.put(code_system("c", STRICT, caseSensitive=False))
        assert servers.found(query) == {"o-0", "o-1"}
        servers.put(code_system("c", STRICT, caseSensitive=True))
        servers.delete("CodeSystem/c")
        assert servers.found(query) == {"o-0", "o-1"}


def test_c40_a_conditional_create_finds_an_identifier_in_any_case(tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:a", "value": "xY-1"}]}
    with both(tmp_path) as servers:
        for server in servers.servers:
            first = server.post("Patient", patient)
            again = server.post("Patient", patient, headers={"If-None-Exist": "identifier=XY-1"})
            assert (first.status_code, again.status_code) == (201, 200)
            bundle = {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [
                    {
                        "resource": {
                            "resourceType": "Patient",
                            "identifier": [{"system": "urn:b", "value": value}],
                        },
                        "request": {
                            "method": "POST",
                            "url": "Patient",
                            "ifNoneExist": f"identifier=urn:b|{value}",
                        },
                    }
                    for value in ("Kyiv", "KYIV")
                ],
            }
            assert server.post("", bundle).status_code == 400  # both mean one patient


def test_c40_sorting_is_by_what_is_written(record: Both) -> None:
    query = f"Observation?code={UNKNOWN}|hgb&_sort="
    assert record.ids(f"{query}code") == ["u-0", "u-2", "u-1"]
    assert record.ids(f"{query}-code") == ["u-1", "u-2", "u-0"]
