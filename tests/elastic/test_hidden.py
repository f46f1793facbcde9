"""Policies with an engine: the same answers as without, and what is hidden is not even named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from fhir_server.store.elastic import index, searching
from fhir_server.store.elastic.store import SearchedStore
from tests.elastic.engine import Engine
from tests.serving import Json, Server, served

OWN, HIDDEN = 4, 30
LABEL = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


def condition(id_: str, patient: str, day: int, label: str = "N") -> Json:
    return {
        "resourceType": "Condition",
        "id": id_,
        "meta": {"security": [{"system": LABEL, "code": label}]},
        "subject": {"reference": f"Patient/{patient}"},
        "onsetDateTime": f"2020-01-{day:02d}",
        "note": [{"text": "a bone"}],
    }


@contextmanager
def hospital(folder: Path, backend: str = "memory", **settings: str) -> Iterator[Server]:
    """An engine has followed all but the last of what is hidden and of what is not."""
    with served(backend, folder, open_=False, **settings) as server:
        server.headers = server.bearer("system/*.cruds")
        for patient in ("own", "other"):
            made = {"resourceType": "Patient", "id": patient, "name": [{"text": f"bone {patient}"}]}
            assert server.put(f"Patient/{patient}", made).status_code == 201
        for number in range(OWN):
            label = "R" if number % 2 else "N"
            one = condition(f"own{number}", "own", 1 + number, label)
            assert server.put(f"Condition/own{number}", one).status_code == 201
        for number in range(HIDDEN):
            if number == HIDDEN - 1:
                follow(server)
            one = condition(f"other{number}", "other", 1 + number % 28)
            assert server.put(f"Condition/other{number}", one).status_code == 201
        last = condition("own0", "own", 20)
        assert server.put("Condition/own0", last).status_code == 200
        yield server


def follow(server: Server) -> None:
    store = server.domain.store
    if isinstance(store, SearchedStore):
        server.run(store.follower.follow())


QUERIES = (
    "Condition?_content=bone",
    "Condition?_content=bone&_count=2",
    "Condition?_content=bone&_sort=_lastUpdated&_count=3",
    "Condition?_content=bone&_sort=code",
    "Condition?_content=bone&_summary=count",
    "Condition?_content=bone&_total=accurate&_count=1",
    "Condition?_content=NOT bone",
    "Condition?_content=bone&_include=Condition:subject",
    "Condition?subject:Patient._content=bone",
    f"Condition?_content=bone&_security={LABEL}|R",
    f"Condition?_content=bone&_security:not={LABEL}|R",
    "Condition?patient=Patient/other&_content=bone",
    "Patient?_content=bone",
    "Patient?_has:Condition:subject:_content=bone",
    "?_type=Patient,Condition&_content=bone",
)
READERS = (
    {"scope": "patient/*.rs", "patient": "own"},
    {"scope": f"system/Condition.rs?_security={LABEL}|R"},
    {"scope": "system/*.rs"},
)


def answers(server: Server, readers: int) -> list[object]:
    """Names, totals and pages of every query for the first so many readers."""
    found: list[object] = []
    for reader in READERS[:readers]:
        headers = server.bearer(**reader)
        for query in QUERIES:
            url = query
            for _ in range(3):
                bundle = server.get(url, headers=headers).json()
                names = [e["resource"].get("id") for e in bundle.get("entry", ())]
                found.append((reader["scope"], query, names, bundle.get("total")))
                links = {link["relation"]: link["url"] for link in bundle.get("link", ())}
                if "next" not in links:
                    break
                url = links["next"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "page", "readers"), [("sqlite", 3, 3), ("mongo", 1001, 1)])
def test_the_same_answers_as_without(
    engine: Engine, tmp_path: Path, backend: str, page: int, readers: int
) -> None:
    with hospital(tmp_path / "alone") as alone:
        expected = answers(alone, readers)
    limits = mock.patch.object(index, "PAGE", page), mock.patch.object(searching, "PAGE", page)
    with limits[0], limits[1], hospital(tmp_path / "beside", backend, search=engine.url) as beside:
        assert answers(beside, readers) == expected


def test_what_is_hidden_is_not_named(engine: Engine, tmp_path: Path) -> None:
    """Else it could use up a limit, or the time of the answer would tell of it."""
    with hospital(tmp_path, search=engine.url) as server:
        follow(server)
        for reader, names in (
            (READERS[0], OWN),
            (READERS[1], OWN // 2),
            (READERS[2], OWN + HIDDEN),
        ):
            engine.named = 0
            headers = server.bearer(**reader)
            with mock.patch.object(searching, "LOOKED", names):
                answer = server.get("Condition?_content=bone&_count=50", headers=headers)
            assert answer.status_code == 200, answer.text
            assert names == len(answer.json()["entry"])
            # What a mask takes finds nothing: the same are named again to look at what is shown.
            assert engine.named in (names, 2 * names)
        with mock.patch.object(searching, "LOOKED", OWN + HIDDEN - 1):
            assert server.get("Condition?_content=bone").status_code == 400
