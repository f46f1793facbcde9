"""``_anonymize`` of $export, and $anonymize of a Group: what is written, to whom, and when not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.interactions.exporting import exports
from fhir_server.model.problem import Unprocessable
from operations.bulk import walking
from operations.deid.vault import Vault
from operations.deidentification import deidentification
from tests.operations.test_export_job import Bench
from tests.serving import BACKENDS, Json, Server, issue, served
from tests.smart.bulk import (
    LENIENT,
    RESEARCH,
    SCOPE,
    consent,
    ended,
    fill,
    kicked,
    lines,
    manifest,
    put,
    started,
)

STUDY = "_anonymize=research&_project=study"


@pytest.fixture(params=list(BACKENDS))
def bulk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path / "data", open_=False) as server:
        fill(server)
        deidentification(server.domain.settings).keys.add("study")
        yield server


def made(server: Server, url: str, **headers: str) -> dict[str, list[Json]]:
    """type -> the lines of its files."""
    output = manifest(server, started(kicked(server, url, **headers)))["output"]
    found: dict[str, list[Json]] = {}
    for item in output:
        rows = lines(server, item["url"])
        assert item.get("count", len(rows)) == len(rows) > 0
        found.setdefault(item["type"], []).extend(rows)
    return found


def labels(resource: Json) -> set[str]:
    return {coding["code"] for coding in resource["meta"]["security"]}


@pytest.mark.parametrize(
    "url", ["$export?_type=Patient,Observation&", "Patient/$export?", "Group/g/$export?"]
)
def test_every_level(bulk: Server, url: str) -> None:
    for profile, label in (("_anonymize=safe-harbor", "ANONYED"), (STUDY, "PSEUDED")):
        found = made(bulk, url + profile)
        [report] = found.pop("Parameters")
        rows = [row for rows in found.values() for row in rows]
        counts = {p["name"]: p for p in report["parameter"]}
        assert counts["resources"]["valueInteger"] == len(rows) >= 6
        assert all(label in labels(row) for row in rows)
        patients = {f"Patient/{row['id']}" for row in found["Patient"]}
        named = {row["subject"]["reference"] for row in found["Observation"]}
        assert len(named & patients) == len(patients) == (2 if "Group" in url else 3)
        assert not {row["id"] for row in rows} & {"a", "b", "c", "a1", "b1"}
        assert not any("name" in row for row in found["Patient"])
        [rule] = [
            p
            for p in report["parameter"]
            if {"name": "path", "valueString": "nodesByType('HumanName')"} in p.get("part", ())
        ]
        assert {"name": "count", "valueInteger": len(patients)} in rule["part"]


def test_a_project_is_the_same_at_every_export(bulk: Server) -> None:
    first = made(bulk, f"Group/g/$export?{STUDY}")
    del first["Parameters"]
    again = made(
        bulk,
        f"Group/g/$anonymize?{STUDY.replace('_anonymize', 'profile', 1)}".replace(
            "_project", "project"
        ),
    )
    del again["Parameters"]
    assert first == again
    random = [made(bulk, "Group/g/$anonymize")["Patient"] for _ in range(2)]
    assert not {row["id"] for row in random[0]} & {row["id"] for row in random[1]}
    one = {row["id"] for row in first["Patient"]}
    vault = deidentification(bulk.domain.settings).vault
    known = bulk.run(vault.originals("study", sorted(one)))
    assert {original.key for original in known.values()} == {"Patient/a", "Patient/b"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_anonymize=unheard-of", 404),
        ("_anonymize=research", 400),
        ("_anonymize=research&_project=none", 422),
        ("_anonymize=", 400),
        ("_project=study", 400),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(bulk: Server, query: str, status: int) -> None:
    for headers in ({}, LENIENT):
        answer = kicked(bulk, f"Group/g/$export?{query}", **headers)
        assert answer.status_code == status and issue(answer)


def test_a_key_that_goes_meanwhile_fails_the_job(
    bulk: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail closed: no file is shown."""

    def gone(*_: Any) -> bytes:
        raise Unprocessable("there is no key")

    monkeypatch.setattr(Vault, "_keys", gone)
    url = started(kicked(bulk, f"Group/g/$export?{STUDY}"))
    answer = ended(bulk, url, bulk.bearer(SCOPE))
    assert answer.status_code >= 400 and issue(answer)
    file = f"{url}/Patient.1.ndjson"
    assert bulk.get(file, headers=bulk.bearer(SCOPE)).status_code == 404


def test_l30_who_refuses_later_is_not_fetched(bulk: Server) -> None:
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    url = started(kicked(bulk, f"Group/g/$export?_type=Patient,Observation&{STUDY}", **RESEARCH))
    before = manifest(bulk, url)
    assert not any("count" in item for item in before["output"] if item["type"] != "Parameters")
    files = {item["type"]: item["url"] for item in before["output"]}
    assert len(lines(bulk, files["Patient"])) == 2
    assert len(lines(bulk, files["Observation"])) == 4
    [report] = lines(bulk, files["Parameters"])
    assert '"count"' not in json.dumps(report) and '"resources"' not in json.dumps(report)
    aside = bulk.get(f"{files['Patient']}.aside", headers=bulk.bearer(SCOPE))
    assert aside.status_code == 404
    known = bulk.run(
        deidentification(bulk.domain.settings).vault.originals(
            "study", [row["id"] for row in lines(bulk, files["Patient"])]
        )
    )
    [of_b] = [name for name, original in known.items() if original.key == "Patient/b"]
    put(bulk, consent("a", "deny"))
    assert [row["id"] for row in lines(bulk, files["Patient"])] == [of_b]
    seen = lines(bulk, files["Observation"])
    assert {row["subject"]["reference"] for row in seen} == {f"Patient/{of_b}"}
    put(bulk, consent("b", "deny"))
    assert [item["type"] for item in manifest(bulk, url)["output"]] == ["Parameters"]


def test_deletions_bear_the_names_of_earlier_exports(bulk: Server) -> None:
    first = made(bulk, f"Group/g/$export?{STUDY}")
    known = {row["id"] for row in first["Observation"]}
    headers = bulk.bearer("system/*.cruds")
    assert bulk.delete("Observation/a1", headers=headers).status_code in (200, 204)
    since = "_since=2020-01-01T00:00:00Z"
    later = manifest(bulk, started(kicked(bulk, f"Group/g/$export?{STUDY}&{since}")))
    [row] = lines(bulk, later["deleted"][0]["url"])
    assert row["entry"][0]["request"]["url"].removeprefix("Observation/") in known
    other = kicked(bulk, f"Group/g/$export?_anonymize=safe-harbor&{since}")
    assert manifest(bulk, started(other))["deleted"] == []


class Deidentifying(Bench):
    """The job with a server's profiles."""

    def __init__(self, server: Server, folder: Path) -> None:
        super().__init__(server, folder)
        deid = deidentification(server.domain.settings)
        self.body = walking.export_body(exports(server.domain.searching, deid), lines=2)


def test_killed_at_every_step_it_makes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also random codes agree over all files, and the report counts each resource once."""
    monkeypatch.setattr(walking, "PAGE", 2)
    monkeypatch.setattr(walking, "SETTLE", 0)
    with served("sqlite", tmp_path / "s") as server:
        for n in range(5):
            server.put(f"Patient/p{n}", {"resourceType": "Patient", "id": f"p{n}", "active": True})
            about = {"reference": f"Patient/p{n}"}
            basic = {"resourceType": "Basic", "id": f"b{n}", "code": {"text": "x"}}
            server.put(f"Basic/b{n}", basic | {"subject": about})
        bench = Deidentifying(server, tmp_path / "jobs")
        asked = {"types": ("Basic", "Patient"), "anonymize": "safe-harbor"}
        job = server.run(bench.submit(**asked))
        bench.queue.rules = type(bench.queue.rules)(attempts=100)
        kills = 0
        while not server.run(bench.run(job, kills % 2, False)):
            kills += 1
            assert kills < 40
        assert kills >= 3
        files = server.run(bench.made(job))
    rows = [json.loads(row) for text in files.values() for row in text.splitlines()]
    [report] = [row for row in rows if row["resourceType"] == "Parameters"]
    patients = {f"Patient/{row['id']}" for row in rows if row["resourceType"] == "Patient"}
    named = {row["subject"]["reference"] for row in rows if row["resourceType"] == "Basic"}
    assert len(patients) == 5 and patients == named
    assert {"name": "resources", "valueInteger": 10} in report["parameter"]
    touched = {
        part["valueString"]: next(p["valueInteger"] for p in one["part"] if p["name"] == "count")
        for rule in report["parameter"]
        for one in rule.get("part", ())
        if one["name"] == "touched"
        for part in one["part"]
        if part["name"] == "path"
    }
    assert touched["Patient.id"] == touched["Basic.id"] == 5


KINDS: Final = {
    "resourceType": "CodeSystem",
    "id": "kinds",
    "url": "http://example.org/kinds",
    "status": "active",
    "content": "complete",
    "hierarchyMeaning": "is-a",
    "concept": [
        {"code": "kind", "concept": [{"code": "rare"}, {"code": "seldom"}, {"code": "often"}]}
    ],
}


def test_a_set_is_judged_as_a_whole_and_its_order_tells_nothing(tmp_path: Path) -> None:
    """Twelve people, of whom some have a year and a code of their own."""
    with served("sqlite", tmp_path / "data", open_=False) as server:
        deidentification(server.domain.settings).keys.add("study")
        for n in range(12):
            about = {"subject": {"reference": f"Patient/p{n}"}}
            code = {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]}
            born = {"gender": "male", "birthDate": f"19{60 + n}-02-03"}
            put(server, {"resourceType": "Patient", "id": f"p{n}", **born})
            seen = {"status": "final", "code": code, **about}
            height = {
                "valueQuantity": {
                    "value": 150 + n,
                    "system": "http://unitsofmeasure.org",
                    "code": "cm",
                }
            }
            for day in (f"20{n + 10}-05-05", "2024-05-06"):
                id_ = f"o{n}-{day}"
                one = {"resourceType": "Observation", "id": id_, "effectiveDateTime": day}
                put(server, one | seen | height)
            coding = {"system": KINDS["url"], "code": ("rare", "seldom", "often", "often")[n // 3]}
            one = {"resourceType": "Condition", "id": f"c{n}", "code": {"coding": [coding]}}
            put(server, one | about)
        put(server, KINDS)
        answer = manifest(server, started(kicked(server, "$export?_anonymize=safe-harbor")))
        cohort = answer["extension"]["cohort"]
        asked = "_type=Patient,Observation,Condition"
        found = made(server, f"$export?_anonymize=safe-harbor&{asked}")
        plain = made(server, f"$export?{STUDY}&_type=Patient,Observation")
    assert cohort["k"] == 5 and cohort["quasi"][0].startswith("birthDate: ")
    assert "cohort" not in str(plain["Parameters"])
    [told] = [p for p in found["Parameters"][0]["parameter"] if p["name"] == "cohort"]
    assert {"name": "k", "valueInteger": 5} in told["part"]
    shown = [row.get("effectiveDateTime") for row in found["Observation"]]
    assert sorted(map(str, shown)) == ["2024"] * 12 + ["None"] * 12
    assert shown != sorted(shown, key=str) and shown != sorted(shown, key=str, reverse=True)
    values: dict[Any, set[str]] = {}
    for row in found["Observation"]:
        value = row["valueQuantity"]["value"]
        values.setdefault(value, set()).add(row["subject"]["reference"])
    assert min(map(len, values.values())) >= 5
    born = [row.get("birthDate", str(row.get("_birthDate"))) for row in found["Patient"]]
    assert min(born.count(one) for one in born) >= 5
    kinds = [row["code"]["coding"][0]["code"] for row in found["Condition"]]
    assert len(kinds) >= 5 and set(kinds) <= {"kind", "often"}
    assert min(kinds.count(kind) for kind in kinds) >= 5
    assert len(told["part"]) > 5 and "together" in cohort
