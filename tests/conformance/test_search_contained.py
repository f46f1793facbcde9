"""``_containedType=contained``: https://hl7.org/fhir/R4/search.html#contained (cases 26, 28, 53)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .searching import Both, both, link, walk

RX = "http://www.nlm.nih.gov/research/umls/rxnorm"


def medication(id: str, code: str) -> dict[str, Any]:
    return {
        "resourceType": "Medication",
        "id": id,
        "code": {"coding": [{"system": RX, "code": code}]},
        "status": "active",
    }


def request(id: str, *contained: dict[str, Any]) -> dict[str, Any]:
    others = [{"reference": f"#{one['id']}"} for one in contained[1:]]
    return {
        "resourceType": "MedicationRequest",
        "id": id,
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "medicationReference": {"reference": f"#{contained[0]['id']}"},
        **({"supportingInformation": others} if others else {}),
        "contained": list(contained),
    }


RECORD = [
    medication("alone", "1"),
    medication("other", "2"),
    request("one", medication("m", "1")),
    request("two", medication("a", "1"), medication("b", "2")),
    request("many", *(medication(f"x{at}", "1") for at in range(5))),
    request("none", medication("m", "2")),
]
INSIDE = {"one#m", "two#a", *(f"many#x{at}" for at in range(5))}
QUERY = "Medication?code=1&_containedType=contained&_contained="


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("contained")) as servers:
        servers.put(*RECORD)
        yield servers


def places(bundle: dict[str, Any]) -> list[str]:
    return [entry["fullUrl"].rpartition("/")[2] for entry in bundle.get("entry", ())]


@pytest.mark.parametrize(
    ("contained", "expected"),
    [("true", INSIDE), ("both", INSIDE | {"alone"}), ("false", {"alone"})],
)
@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_c53_contained_resources_alone(
    record: Both, contained: str, expected: set[str], size: int
) -> None:
    for server in record.servers:
        shown: list[str] = []
        for page in walk(server, f"{QUERY}{contained}&_count={size}"):
            assert len(page["entry"]) <= size and page["total"] == len(expected)
            assert all(entry["resource"]["resourceType"] == "Medication" for entry in page["entry"])
            assert {entry["search"]["mode"] for entry in page["entry"]} == {"match"}
            shown += places(page)
        assert len(shown) == len(expected) and set(shown) == expected


def test_c30_c53_they_are_counted_and_cut(record: Both) -> None:
    count = record.bundle(f"{QUERY}true&_summary=count")
    assert count["total"] == len(INSIDE) and "entry" not in count
    for server in record.servers:
        found = server.get(f"{QUERY}true&_elements=code").json()
        assert all("status" not in entry["resource"] for entry in found["entry"])
        assert "_containedType=contained" in (link(found, "self") or "")
    assert places(record.bundle(f"{QUERY}true&status=inactive")) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (f"{QUERY}true&_include=*", "_contained"),
        (f"{QUERY}true&_explain=true", "_explain"),
        ("Medication?_contained=true&_containedType=inner", "_containedType"),
    ],
)
def test_c33_what_does_not_go_with_them(record: Both, query: str, named: str) -> None:
    record.refused(query, named)
