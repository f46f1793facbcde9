"""``_explain=true``: the plan, what drives it, estimates, counts and times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fhir_server.search import explain, plan
from tests.cli.test_commands import vehr
from tests.serving import BACKENDS, Json, Server, issue, served

QUERIES = (
    ("", "scan Observation"),
    ("code=a", "code is"),
    ("code=a&status=final&_sort=-date&_total=accurate", "total exact"),
    ("patient.name=doe", "subject leads to"),
    ("_has:Provenance:target:agent=Practitioner/1", "is referred to by target of"),
    ("value-quantity=gt5", "value-quantity gt 5"),
    ("date=ge2020&code:not=b", "not"),
    ("_id=1,2", "_id in 1, 2"),
    ("code:missing=true", "has a token"),
    ("patient=Patient/1&_include=Observation:subject", "include Observation:subject"),
    ("component-code-value-quantity=a$5", "element"),
    ("_sort=_lastUpdated", "sort _lastUpdated"),
)


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


def observation(code: str, value: int) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"code": code}]},
        "effectiveDateTime": f"2024-01-{value:02}",
        "valueQuantity": {"value": value},
    }


def outcomes(body: Json) -> list[str]:
    return [
        issue["diagnostics"]
        for entry in body.get("entry", ())
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    ]


def matches(body: Json) -> list[str]:
    return [e["resource"]["id"] for e in body.get("entry", ()) if e["search"]["mode"] == "match"]


def test_it_tells_and_changes_nothing(server: Server) -> None:
    for value in range(1, 8):
        server.create(observation("ab"[value % 2], value))
    for query, said in QUERIES:
        plain = server.get(f"Observation?{query}").json()
        answer = server.get(f"Observation?{query}{'&' if query else ''}_explain=true")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert matches(body) == matches(plain) and body.get("total") == plain.get("total")
        assert "_explain=true" in body["link"][0]["url"]
        shown, *steps = outcomes(body)
        assert said in shown, shown
        assert any("us" in step for step in steps), steps
        assert any("actual" in step for step in steps), steps


def test_pages_are_explained_too(server: Server) -> None:
    for value in range(1, 8):
        server.create(observation("a", value))
    body = server.get("Observation?code=a&_count=3&_explain=true").json()
    (url,) = [x["url"] for x in body["link"] if x["relation"] == "next"]
    assert "_explain" not in url
    second = server.get(url + "&_explain=true").json()
    assert "after a cursor" in outcomes(second)[0] and len(matches(second)) == 3


def test_the_driver_is_the_rarest(tmp_path: Path) -> None:
    with served("sqlite", tmp_path) as server:
        for _ in range(180):
            server.create(observation("common", 1))
        for _ in range(3):
            server.create(observation("rare", 2) | {"status": "amended"})
        body = server.get("Observation?code=common,rare&status=amended&_explain=true").json()
        text = outcomes(body)
        driving = ("drives", "index k_d_n by")  # as SQLite and as MongoDB say it
        assert any("status is" in line and any(d in line for d in driving) for line in text), text
        assert any("status is" in line and "estimate 3" in line for line in text), text


def test_bad_values_and_other_places(server: Server) -> None:
    assert server.get("Observation?_explain=yes").status_code == 400
    assert outcomes(server.get("Observation?_explain=false").json()) == []
    condition = {"if-none-exist": "_explain=true"}
    assert server.post("Observation", observation("a", 1), headers=condition).status_code == 400


def test_only_for_who_sees_everything(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, open_=False) as server:
        limited = server.bearer("patient/*.rs", patient="1")
        refused = server.get("Observation?_explain=true", headers=limited)
        assert refused.status_code == 403 and issue(refused)["code"] == "forbidden"
        whole = server.bearer("system/*.rs")
        assert server.get("Observation?_explain=true", headers=whole).status_code == 200


@pytest.mark.slow
def test_from_the_shell(tmp_path: Path) -> None:
    with served("sqlite", tmp_path) as server:
        made = server.create(observation("a", 1))
    done = vehr("search", "Observation", "code=a", "--data", tmp_path)
    assert made["id"] in done.stdout, done.stderr
    done = vehr("search", "--explain", "Observation", "code=a&_sort=-date", "--data", tmp_path)
    assert "scan Observation" in done.stdout and "drives" in done.stdout
    assert vehr("search", "Observation", "nothing=1", "--data", tmp_path).returncode == 2


def test_every_node_has_a_text() -> None:
    """A node of a new kind fails the type check and here."""

    @dataclass(frozen=True)
    class Novel:
        param: str = "x"

    novel: Any = Novel()
    with pytest.raises(AssertionError):
        explain.lines_of(plan.Not(novel))
