"""Observation/$stats: https://hl7.org/fhir/R4/observation-operation-stats.html"""

from __future__ import annotations

import random
import statistics
from decimal import Decimal
from typing import Any

import pytest

from operations.statistics import STATISTICS
from tests.serving import Server, issue

Json = dict[str, Any]
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def concept(code: str) -> Json:
    return {"coding": [{"system": LOINC, "code": code}]}


def quantity(value: float, unit: str = "mg/dL", **others: Any) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit} | others


def observation(when: str = "2020-01-01", code: str = "2339-0", **others: Any) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": concept(code),
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": when,
    } | others


def load(server: Server, *rows: Json) -> list[str]:
    server.put("Patient/p", {"resourceType": "Patient", "id": "p"})
    return [server.create(row)["id"] for row in rows]


URL = f"Observation/$stats?subject=Patient/p&system={LOINC}&code=2339-0"


def ask(server: Server, query: str = "", **options: Any) -> list[Json]:
    answer = server.get(URL + query, **options)
    assert answer.status_code == 200, answer.text
    assert answer.json()["resourceType"] == "Parameters"
    parameters: list[Json] = answer.json()["parameter"]
    return parameters


def figures(parameter: Json) -> dict[str, Any]:
    assert parameter["name"] == "statistics"
    observation = parameter["resource"]
    assert observation["status"] == "final"
    assert observation["subject"] == {"reference": "Patient/p"}
    found = {}
    for part in observation["component"]:
        (coding,) = part["code"]["coding"]
        assert coding["system"].endswith("/observation-statistics")
        value = part.get("valueQuantity")
        found[coding["code"]] = None if value is None else (value["value"], value["unit"])
    return found


def test_the_figures(server: Server) -> None:
    load(
        server,
        observation(valueQuantity=quantity(90)),
        observation("2020-02-01", valueQuantity=quantity(110)),
        observation("2020-03-01", valueQuantity=quantity(1.3, "g/L")),
        observation(status="entered-in-error", valueQuantity=quantity(9999)),
        observation(valueQuantity=quantity(5, "mmol/L")),
        observation(valueQuantity=quantity(5, comparator="<")),
        observation(valueQuantity={"value": 5, "unit": "drops"}),
        observation(valueString="high"),
        observation(subject={"reference": "Patient/q"}, valueQuantity=quantity(7)),
        observation(code="other", valueQuantity=quantity(7)),
    )
    asked = ("average", "max", "min", "count", "total-count", "sum", "median", "variance")
    (one,) = ask(server, "".join(f"&statistic={name}" for name in asked))
    assert one["resource"]["code"] == concept("2339-0")
    assert figures(one) == {
        "average": (110, "mg/dL"),
        "maximum": (130, "mg/dL"),
        "minimum": (90, "mg/dL"),
        "count": (3, "1"),
        "total-count": (7, "1"),
        "sum": (330, "mg/dL"),
        "median": (110, "mg/dL"),
        "variance": (400, "(mg/dL)2"),
    }
    assert "4 of 7" in one["resource"]["note"][0]["text"]
    assert server.post("Observation", one["resource"]).status_code == 201


def test_time(server: Server) -> None:
    load(
        server,
        observation("2020-01-01", valueQuantity=quantity(1)),
        observation("2021-01-01", valueQuantity=quantity(2)),
        observation("2022-01-01", valueQuantity=quantity(4)),
    )
    assert figures(ask(server, "&statistic=sum")[0]) == {"sum": (7, "mg/dL")}
    (none,) = ask(server, "&statistic=sum&statistic=count&duration=24")
    assert figures(none) == {"sum": None, "count": (0, "1")}
    assert set(none["resource"]["effectivePeriod"]) == {"start", "end"}
    period = {"start": "2020-06-01", "end": "2021-12-31"}
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "subject", "valueUri": "Patient/p"},
            {"name": "coding", "valueCoding": {"system": LOINC, "code": "2339-0"}},
            {"name": "period", "valuePeriod": period},
            {"name": "statistic", "valueCode": "sum"},
            {"name": "include", "valueBoolean": True},
        ],
    }
    answer = server.post("Observation/$stats", body)
    one, source = answer.json()["parameter"]
    assert figures(one) == {"sum": (2, "mg/dL")}
    assert one["resource"]["effectivePeriod"] == period
    assert source["name"] == "source" and source["resource"]["valueQuantity"]["value"] == 2


def test_sources_and_limit(server: Server) -> None:
    ids = load(
        server, *(observation(f"2020-01-0{n}", valueQuantity=quantity(n)) for n in range(1, 6))
    )
    sources = ask(server, "&statistic=count&include=true")[1:]
    assert [s["resource"]["id"] for s in sources] == ids[::-1]
    assert len(ask(server, "&statistic=count&include=true&limit=2")) == 3
    assert len(ask(server, "&statistic=count&include=false&limit=2")) == 1


def test_panels_give_one_observation_for_each_member(server: Server) -> None:
    members = load(
        server,
        observation(code="m1", valueQuantity=quantity(3)),
        observation(code="2339-0x", valueQuantity=quantity(8)),
    )
    load(
        server,
        observation(
            component=[
                {"code": concept("8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
                {"code": concept("8462-4"), "valueQuantity": quantity(80, "mm[Hg]")},
            ]
        ),
        observation(
            component=[{"code": concept("8480-6"), "valueQuantity": quantity(16, "kPa")}],
            hasMember=[{"reference": f"Observation/{members[0]}"}],
        ),
    )
    found = {
        p["resource"]["code"]["coding"][0]["code"]: figures(p)
        for p in ask(server, "&statistic=count&statistic=maximum")
    }
    assert {code: row["count"][0] for code, row in found.items()} == {
        "8480-6": 2,
        "8462-4": 1,
        "m1": 1,
    }
    url = f"Observation/$stats?subject=Patient/p&system={LOINC}&code=8480-6&statistic=count"
    (one,) = server.get(url).json()["parameter"]
    assert figures(one) == {"count": (2, "1")}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("&statistic=regression", "regression"),
        ("&statistic=mode", "mode"),
        ("", "statistic"),
        ("&statistic=sum&duration=-1", "duration"),
        ("&statistic=sum&duration=x", "duration"),
        ("&statistic=sum&limit=0", "limit"),
        ("&statistic=sum&period=2020", "period"),
        ("&statistic=sum&nonsense=1", "nonsense"),
        ("&statistic=sum&subject=Patient/q", "subject"),
    ],
)
def test_what_is_refused(server: Server, query: str, names: str) -> None:
    answer = server.get(URL + query)
    assert answer.status_code == 400, answer.text
    assert names in issue(answer)["diagnostics"]


def test_subject_and_code_are_required(server: Server) -> None:
    for query in ("code=1&statistic=sum", "subject=Patient/p&statistic=sum"):
        assert server.get(f"Observation/$stats?{query}").status_code == 400
    elsewhere = "Observation/$stats?subject=http://x.org/Patient/p&code=1&statistic=sum"
    assert server.get(elsewhere).status_code == 400


def test_hidden_observations_do_not_count(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    load(
        secured,
        observation(valueQuantity=quantity(1)),
        observation(status="preliminary", valueQuantity=quantity(100)),
    )
    own = secured.bearer("patient/Observation.rs?status=final", patient="p")
    (one,) = ask(secured, "&statistic=sum&statistic=total-count", headers=own)
    assert figures(one) == {"sum": (1, "mg/dL"), "total-count": (1, "1")}
    stranger = secured.bearer("patient/Observation.rs", patient="q")
    (none,) = ask(secured, "&statistic=sum&statistic=total-count", headers=stranger)
    assert figures(none) == {"sum": None, "total-count": (0, "1")}


def test_the_table_agrees_with_another_implementation() -> None:
    chance = random.Random(7)
    for size in (1, 2, 3, 4, 5, 10, 99):
        values = sorted(Decimal(chance.randrange(1000)) / 10 for _ in range(size))
        floats = [float(v) for v in values]
        expected = {
            "average": statistics.fmean(floats),
            "median": statistics.median(floats),
            "sum": sum(floats),
        }
        if size > 1:
            cuts = statistics.quantiles(floats, n=20, method="inclusive")
            expected |= {
                "std-dev": statistics.stdev(floats),
                "variance": statistics.variance(floats),
                "4-lower": cuts[4],
                "4-upper": cuts[14],
                "4-dev": (cuts[14] - cuts[4]) / 2,
                "20-percent": cuts[3],
                "80-percent": cuts[15],
                "5-1": cuts[3],
                "5-2": cuts[7],
                "5-3": cuts[11],
                "5-4": cuts[15],
            }
        for name, value in expected.items():
            found = STATISTICS[name].of(values)
            assert found is not None and float(found) == pytest.approx(value), (name, size)
    # NIST and R (e1071, type 2) on the numbers 2, 3, 5, 11
    known = [Decimal(n) for n in (2, 3, 5, 11)]
    skew, kurtosis = (STATISTICS[n].of(known) for n in ("skew", "kurtosis"))
    mean, n = 5.25, 4
    spread = statistics.stdev([2, 3, 5, 11])
    third = sum((x - mean) ** 3 for x in (2, 3, 5, 11)) * n / ((n - 1) * (n - 2) * spread**3)
    fourth = sum((x - mean) ** 4 for x in (2, 3, 5, 11)) / spread**4
    fourth = fourth * n * (n + 1) / ((n - 1) * (n - 2) * (n - 3)) - 3 * (n - 1) ** 2 / (
        (n - 2) * (n - 3)
    )
    assert skew is not None and float(skew) == pytest.approx(third)
    assert kurtosis is not None and float(kurtosis) == pytest.approx(fourth)
    assert STATISTICS["skew"].of([Decimal(1)] * 5) is None
    assert STATISTICS["std-dev"].of([Decimal(1)]) is None
