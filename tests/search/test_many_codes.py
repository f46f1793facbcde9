""":below over large code systems: up to a limit, which is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fhir_server.model.problem import BadRequest
from terminology.filed import Filed
from terminology.filing import write_file
from terminology.filters import filtered
from terminology.service import Json, Refused
from terminology.stored import MOST_CODES, Question, StoredTerminology
from tests.serving import BACKENDS, served
from tests.sole import Sole

SYSTEM = "urn:example:many"
RESOURCE: Json = {
    "resourceType": "CodeSystem",
    "url": SYSTEM,
    "status": "active",
    "caseSensitive": True,
    "hierarchyMeaning": "is-a",
    "content": "not-present",
}


def test_as_many_as_are_stated_and_no_more(tmp_path: Path) -> None:
    parents = {0: (), 1: (0,), **{n: (1 if n < MOST_CODES + 1 else 0,) for n in range(2, 6000)}}
    write_file(
        tmp_path / "concepts",
        RESOURCE,
        (
            {"code": str(n), "property": [{"code": "parent", "valueCode": str(p)} for p in above]}
            for n, above in parents.items()
        ),
    )
    filed = Filed(tmp_path / "concepts")
    terminology = StoredTerminology(Sole(RESOURCE, filed))
    found = asyncio.run(terminology.answer(Question("below", SYSTEM, "1")))
    assert len(found) == MOST_CODES and {one.code for one in found} >= {"1", "2", str(MOST_CODES)}
    with pytest.raises(BadRequest, match=f"more than {MOST_CODES}") as refused:
        asyncio.run(terminology.answer(Question("below", SYSTEM, "0")))
    assert refused.value.issues[0].code == "too-costly"
    below = {"property": "concept", "op": "is-a", "value": "0"}
    assert len(filtered(filed, below, 6000)) == 6000
    with pytest.raises(Refused, match="more than 5999"):
        filtered(filed, below, 5999)
    assert len(filed.below("0")) == 6000 and len(filed.below("0", 10)) <= 11


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_than_a_thousand_codes(backend: str, tmp_path: Path) -> None:
    leaves = [{"code": f"c{n}"} for n in range(1500)]
    system = RESOURCE | {"content": "complete", "concept": [{"code": "top", "concept": leaves}]}
    with served(backend, tmp_path) as server:
        server.create({**system})
        for code in ("c7", "c1400", "other"):
            coding = {"system": SYSTEM, "code": code}
            server.create({"resourceType": "Basic", "code": {"coding": [coding]}})
        answer = server.get(f"Basic?code:below={SYSTEM}|top").json()
        assert answer["total"] == 2
