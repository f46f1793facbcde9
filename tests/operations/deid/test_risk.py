"""k, l, t and the risks, against pycanon and worked examples; reaching k; the operation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.model.problem import BadRequest
from operations.deid.reach import HIERARCHIES, reach
from operations.deid.risk import risk
from tests.serving import BACKENDS, Json, Server, issue, served

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "pycanon.json").read_text(encoding="utf-8")
)
"""What pycanon 1.3.6 (Apache-2.0) computes of random tables."""


@pytest.mark.parametrize("table", VECTORS["tables"], ids=lambda t: f"{len(t['quasi'])}")
def test_against_pycanon(table: dict[str, Any]) -> None:
    rows = [tuple(row) for row in table["quasi"]]
    found = risk(rows, table["sensitive"])
    assert (found.k, found.diversity) == (table["k"], table["l"])
    assert found.closeness is not None
    assert float(found.closeness) == pytest.approx(table["t"], abs=1e-12)
    wrong = risk(rows[::-1], table["sensitive"])
    assert wrong.k == found.k
    assert found.k == 1 or wrong.closeness != found.closeness, "the other way round it is another"


def test_by_hand() -> None:
    """Classes of 1, 2 and 3 of six; in the population 10, 2 and 30."""
    rows = [("a",), ("b",), ("b",), ("c",), ("c",), ("c",)]
    found = risk(rows, population={("a",): 10, ("b",): 2, ("c",): 30})
    assert (found.records, found.classes, found.k, found.unique) == (6, 3, 1, 1)
    assert (found.prosecutor, found.average) == (1, Fraction(1, 2))
    assert found.journalist == Fraction(1, 2)
    assert found.marketer == (Fraction(1, 10) + 1 + Fraction(1, 10)) / 6
    assert found.below == {3: Fraction(1, 2), 5: 1, 11: 1}
    assert risk(rows).marketer == risk(rows).average


ROWS = st.lists(
    st.tuples(
        st.dates().map(lambda d: d.isoformat()),
        st.sampled_from(("female", "male", "")),
        st.sampled_from(("98052", "98101", "03601", "")),
    ),
    min_size=1,
    max_size=30,
)
LEVELS = [HIERARCHIES[kind] for kind in ("date", "category", "postal-code")]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 6), st.sampled_from((Fraction(0), Fraction(1, 10))))
def test_k_is_reached_with_the_least_loss(
    rows: list[tuple[str, str, str]], k: int, most: Fraction
) -> None:
    found = reach(rows, LEVELS, k, most)
    if len(rows) < k:
        assert found is None
        return
    assert found is not None and found.suppressed <= most * len(rows)
    left = Counter(row for row in found.rows if row is not None)
    assert all(size >= k for size in left.values())
    assert left.total() + found.suppressed == len(rows)
    if Counter(rows) and min(Counter(rows).values()) >= k:
        assert found.loss == 0 and found.suppressed == 0


def test_levels() -> None:
    rows = [(f"19{n:02}-03-25", "female", "98052") for n in range(80, 90)]
    found = reach(rows, LEVELS, 5, Fraction(0))
    assert found is not None
    assert found.levels == ("5 years", "kept", "kept")
    assert set(found.rows) == {(f"{y}-{y + 4}", "female", "98052") for y in (1980, 1985)}
    with pytest.raises(BadRequest):
        reach([("1980",) * 6], [HIERARCHIES["date"]] * 6, 2, Fraction(0))


@pytest.fixture(params=list(BACKENDS))
def cohort(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Six patients, five of them in Group g: born 1980 to 1984, two of them male."""
    with served(request.param, tmp_path / "data", open_=False) as server:
        system = server.bearer("system/*.cruds")
        for n in range(6):
            patient = {"resourceType": "Patient", "id": f"p{n}", "birthDate": f"198{n}-03-25"}
            patient["gender"] = "male" if n < 2 else "female"
            assert server.put(f"Patient/p{n}", patient, headers=system).status_code == 201
        members = [{"entity": {"reference": f"Patient/p{n}"}} for n in range(5)]
        group: Json = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
        server.put("Group/g", group | {"member": members}, headers=system)
        yield server


def told(server: Server, url: str) -> dict[str, Any]:
    answer = server.get(url, headers=server.bearer("system/*.rs"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = {}
    for part in answer.json()["parameter"]:
        value = [v for name, v in part.items() if name not in ("name", "part")]
        found[part["name"]] = value[0] if value else part["part"]
    return found


def test_the_operation(cohort: Server) -> None:
    found = told(cohort, "Group/g/$risk-report?quasi=gender")
    assert (found["records"], found["classes"], found["k"], found["unique"]) == (5, 2, 2, 0)
    assert (found["prosecutor"], found["average"]) == (0.5, 0.4)
    found = told(cohort, "Patient/$risk-report?sensitive=Patient.gender")
    assert (found["records"], found["k"], found["unique"], found["l"]) == (6, 1, 6, 1)
    found = told(cohort, "Group/g/$risk-report?quasi=birthDate&profile=safe-harbor&k=5&suppress=0")
    reached = {part["name"]: part for part in found["reached"]}
    assert reached["level"]["valueString"] == "birthDate: 5 years"
    assert reached["suppressed"]["valueInteger"] == 0 and reached["k"]["valueInteger"] == 5


def test_what_is_refused(cohort: Server) -> None:
    system = cohort.bearer("system/*.rs")
    for query, status in (
        ("quasi=Patient.name.(", 400),
        ("quasi=" + "&quasi=".join("abcdefg"), 400),
        ("suppress=2", 400),
        ("profile=none", 404),
        ("profile=research", 400),
    ):
        answer = cohort.get(f"Group/g/$risk-report?{query}", headers=system)
        assert answer.status_code == status and issue(answer), query
    cohort.user("doc", "researcher", "Practitioner/x")
    other = cohort.bearer("user/*.rs", user="doc")
    assert cohort.get("Group/g/$risk-report", headers=other).status_code in (403, 404)
    assert cohort.get("Group/none/$risk-report", headers=system).status_code == 404


def test_the_command(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    lines = [f"198{n},{'f' if n % 2 else 'm'},{n % 3}" for n in range(10)]
    table.write_text("\n".join(["born,sex,disease", *lines]))
    everybody = tmp_path / "everybody.csv"
    everybody.write_text("\n".join(["sex", *["m"] * 50, *["f"] * 20]))
    run = ["deid", "risk", str(table), "--quasi", "sex", "--sensitive", "disease"]
    answer = CliRunner().invoke(app, [*run, "--population", str(everybody)])
    assert answer.exit_code == 0, answer.output
    said = dict(line.split(None, 1) for line in answer.stdout.splitlines())
    assert (said["records"], said["k"], said["l"]) == ("10", "5", "3")
    assert (said["prosecutor"], said["journalist"]) == ("0.200000", "0.050000")
    both = ["deid", "risk", str(table), "--quasi", "born:date", "--quasi", "sex", "--k", "2"]
    answer = CliRunner().invoke(app, both)
    assert "born: " in answer.stdout and "suppressed" in answer.stdout
    assert CliRunner().invoke(app, ["deid", "risk", str(table), "--quasi", "x"]).exit_code != 0
