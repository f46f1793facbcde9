"""L05, L31, L35: what was hidden stays so when it is deleted, also what inherits a label that came
later than itself, and whatever goes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.access.raising import PARTED
from fhir_server.access.reindexing import Reindexing
from fhir_server.model.resource import Key
from tests.consent.fuzzing import KEYS
from tests.consent.worlds import Twin, twins
from tests.serving import BACKENDS

LATE = ("Observation/hd", "RiskAssessment/hr", "Flag/hf", "Task/ht")
"""They bear no label in their bytes."""


@pytest.fixture(params=list(BACKENDS))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Twin, Twin]]:
    with twins(request.param, tmp_path) as both:
        yield both


def delete(twin: Twin, *names: str) -> None:
    for name in names:
        answer = twin.server.delete(name, headers=twin.system)
        assert answer.status_code in (200, 204), answer.text


def hidden(twin: Twin) -> list[str]:
    """What is there and not for D, but for Consents, by which it is hidden."""
    names = [f"{type_}/{id_}" for type_, id_ in KEYS if type_ != "Consent"]
    return [
        name
        for name in dict.fromkeys(names)
        if twin.server.get(name, headers=twin.system).status_code == 200
        and twin.server.get(name, headers=twin.doctor).status_code == 404
    ]


@pytest.mark.parametrize("last_first", [False, True])
def test_what_is_deleted_is_not_told(pair: tuple[Twin, Twin], last_first: bool) -> None:
    names = hidden(pair[0])
    assert {*LATE, "Observation/h1", "Binary/b3"} <= {*names}
    delete(pair[0], *(reversed(names) if last_first else names))
    asked = [*names, *(f"{name}/_history" for name in names)]
    asked += [f"{name}/_history/{version}" for name in names for version in (1, 2)]
    asked += [f"{type_}/_history?_count=200" for type_ in sorted({type_ for type_, _ in KEYS})]
    for url in asked:
        one, other = (twin.ask("GET", url) for twin in pair)
        one, other = ((s, h, t.replace(url, "*")) for s, h, t in (one, other))
        assert one == other, url


def test_the_label_of_what_is_gone_is_inherited_still(pair: tuple[Twin, Twin]) -> None:
    twin = pair[0]
    delete(twin, "Observation/h1")
    reindexing = Reindexing(twin.server.domain.engine)
    for name in ("Observation/hd", "RiskAssessment/hr"):
        twin.server.run(reindexing.one(Key(*name.split("/"))))
        assert twin.server.get(name, headers=twin.doctor).status_code == 404, name
        assert twin.server.get(name, headers=twin.system).status_code == 200, name


def test_what_is_erased_leaves_no_label(pair: tuple[Twin, Twin]) -> None:
    server = pair[0].server
    delete(pair[0], "Observation/hd")
    ledger = server.domain.engine.store.ledger
    assert [row.key for row in server.run(ledger.scan(PARTED))] == ["Observation/hd"]
    right = server.bearer("system/*.cruds __expunge")
    body = {"parameter": [{"name": "expungeDeletedResources", "valueBoolean": True}]}
    body |= {"resourceType": "Parameters"}
    erased = server.post("Observation/hd/$expunge", body, headers=right)
    assert erased.status_code == 200, erased.text
    assert server.run(ledger.scan(PARTED)) == []
