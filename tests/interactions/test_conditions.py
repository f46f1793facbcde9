"""What conditions may say beyond values: value sets, hierarchies, words."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.problem import BadRequest
from tests.serving import Json, Server

KINDS = "http://example.org/CodeSystem/kinds"
SET = "http://example.org/ValueSet/mild"
MILD = f"code:in={SET}"
BELOW = f"code:below={KINDS}|disease"


def condition(code: str, **more: Any) -> Json:
    subject = {"reference": "Patient/p"}
    coded = {"coding": [{"system": KINDS, "code": code}]}
    return {"resourceType": "Condition", "subject": subject, "code": coded, **more}


@pytest.fixture
def kinds(server: Server) -> Server:
    concepts = [{"code": "disease", "concept": [{"code": "cold"}, {"code": "plague"}]}]
    server.create(
        {
            "resourceType": "CodeSystem",
            "url": KINDS,
            "status": "active",
            "content": "complete",
            "concept": concepts,
        }
    )
    include = [{"system": KINDS, "concept": [{"code": "cold"}]}]
    server.create(
        {
            "resourceType": "ValueSet",
            "url": SET,
            "status": "active",
            "compose": {"include": include},
        }
    )
    server.create({"resourceType": "Patient", "id": "p"})
    return server


@pytest.mark.parametrize("criteria", [MILD, BELOW, "_content=sneeze"])
def test_conditional_create(kinds: Server, criteria: str) -> None:
    body = condition("cold", note=[{"text": "Sneeze!"}])
    headers = {"if-none-exist": criteria}
    answers = [kinds.post("Condition", body, headers=headers).status_code for _ in range(3)]
    assert answers == [201, 200, 200]
    kinds.create(body)
    assert kinds.post("Condition", body, headers=headers).status_code == 412


def test_conditional_update_and_delete(kinds: Server) -> None:
    kinds.create(condition("plague"))
    assert kinds.send("PUT", f"Condition?{MILD}", json=condition("cold")).status_code == 201
    again = kinds.send("PUT", f"Condition?{MILD}", json=condition("cold", note=[{"text": "x"}]))
    assert again.status_code == 200
    assert kinds.delete(f"Condition?{MILD}").status_code == 204
    left = kinds.get("Condition").json()["entry"]
    assert [e["resource"]["code"]["coding"][0]["code"] for e in left] == ["plague"]


def test_in_a_transaction(kinds: Server) -> None:
    request = {"method": "POST", "url": "Condition", "ifNoneExist": MILD}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": condition("cold"), "request": request}],
    }
    answers = [kinds.post("", bundle).json()["entry"][0]["response"]["status"] for _ in range(2)]
    assert [answer[:3] for answer in answers] == ["201", "200"]


def test_an_unknown_value_set_is_refused(kinds: Server) -> None:
    headers = {"if-none-exist": "code:in=http://example.org/nothing"}
    answer = kinds.post("Condition", condition("cold"), headers=headers)
    assert answer.status_code == 400 and "nothing" in answer.text
    assert kinds.get("Condition").json()["total"] == 0


@pytest.mark.parametrize("criteria", [("code:in", SET), ("code:below", f"{KINDS}|disease")])
def test_scopes_know_no_value_sets(kinds: Server, criteria: tuple[str, str]) -> None:
    with pytest.raises(BadRequest, match="cannot be used in a scope"):
        kinds.domain.searching.scope("Condition", [criteria])


@pytest.mark.parametrize("name", ["_text", "_content", "subject:Patient._text"])
def test_scopes_know_no_text(server: Server, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot be used in a scope"):
        server.domain.searching.scope("Condition", [(name, "x")])
