"""What is counted of models in use, and that drift is told where there is some, and only there."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

import odd_graphs
import packages
import pytest

from operations.models.manifest import Thresholds
from operations.models.monitoring.distributions import (
    Distribution,
    Reference,
    chi_squared,
    distance,
)
from operations.models.monitoring.monitor import BASELINE, DAY, Monitor
from operations.models.monitoring.outcomes import calibration
from operations.models.monitoring.report import _apart, _drifted
from operations.models.monitoring.tally import Sample, Tally
from operations.models.package import PackageError, of_parts
from tests.serving import STORES, Json, Server, backends, served

ZIP = {"content-type": "application/zip"}


def drawn(seed: int, n: int, mean: float = 130.0) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(mean, 15.0) for _ in range(n)]


def test_psi_and_ks_are_those_of_their_definitions() -> None:
    found = distance([50, 50], [80, 20])
    shares = [((50.5 / 101), (80.5 / 101)), ((50.5 / 101), (20.5 / 101))]
    assert found.psi == pytest.approx(sum((a - e) * log(a / e) for e, a in shares))
    assert (found.ks, found.n) == (pytest.approx(0.3), 100)
    assert distance([10, 20, 30], [10, 20, 30]).psi == 0
    assert distance([0, 0], [1, 1]).psi == 0
    # The 0.9999 quantile of chi-squared with 9 degrees of freedom is 33.72.
    assert chi_squared(9) == pytest.approx(33.72, abs=0.5)


def test_bins_hold_equally_many_values_or_one_value_each() -> None:
    even = Distribution.of([float(i) for i in range(1000)])
    assert len(even.counts) == 10
    assert max(even.counts) - min(even.counts) <= 2
    yes = Distribution.of([0.0] * 30 + [1.0] * 70)
    assert (yes.edges, yes.counts) == ((0.5,), (30, 70))
    assert Distribution.of([4.0, 4.0]).counts == (2,)
    assert Distribution.read(json.loads(json.dumps(even.to_json()))) == even
    for bad in ({"edges": [2, 1], "counts": [1, 1, 1]}, {"edges": [1], "counts": [1]}):
        with pytest.raises(ValueError, match="edges rise"):
            Distribution.read(bad)


def drifts(found: list[float], expected: list[float]) -> bool:
    reference = Distribution.of(expected)
    counts = {"x": list(reference.counted(found).counts)}
    return bool(_drifted("input-drift", _apart({"x": reference}, counts), Thresholds()))


def test_drift_is_raised_on_a_shifted_cohort_and_not_on_the_same() -> None:
    same = [drifts(drawn(seed, 150), drawn(1000 + seed, 2000)) for seed in range(200)]
    assert sum(same) == 0
    shifted = [drifts(drawn(seed, 150, 145.0), drawn(1000 + seed, 2000)) for seed in range(50)]
    assert sum(shifted) == 50
    rare = [[float(i % 7 == 0) for i in range(150)], [float(i % 7 < 4) for i in range(150)]]
    assert [drifts(found, rare[0] * 10) for found in rare] == [False, True]


def test_calibration_tells_what_is_expected_from_what_happened() -> None:
    source = random.Random(7)
    risks = [source.uniform(0.05, 0.5) for _ in range(500)]
    sound = calibration("y", [(p, source.random() < p) for p in risks], 3)
    doubled = calibration("y", [(p, source.random() < min(1.0, 2 * p)) for p in risks], 3)
    assert (sound.n, sound.pending) == (500, 3)
    assert sound.expected == pytest.approx(sum(risks))
    assert abs(sound.z) < 3.7 < abs(doubled.z)
    assert sum(n for n, _, _ in sound.bins) == 500


def test_tallies_add_up() -> None:
    reference = Reference.of({"x": drawn(1, 100)}, {"y": [0.1, 0.2]})
    whole, parts = Tally(), [Tally(), Tally()]
    for i, value in enumerate(drawn(2, 40)):
        missing = ("z",) if i % 4 else ()
        sample = Sample({"x": value}, missing, {"y": 0.1} if i % 2 else {}, 0.002)
        for tally in (whole, parts[i % 2]):
            tally.seen(sample, reference)
    parts[0].add(Tally.of(json.loads(json.dumps(parts[1].value()))))
    parts[0].total = whole.total
    assert parts[0] == whole
    assert (whole.calls, whole.results, whole.missing, whole.asked) == (
        40,
        20,
        {"z": 30},
        {"x": 40, "z": 30},
    )
    assert whole.quantile(0.5) == 0.0025


@pytest.fixture(scope="module", params=backends("memory"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_processes_count_into_rows_of_their_own(backend: str, tmp_path: Path) -> None:
    now = [100_000 * DAY]

    async def body() -> None:
        store = await STORES[backend](tmp_path)
        ledger = store.ledger
        first, second = (Monitor(ledger, lambda: now[0]) for _ in range(2))
        reference = Reference.of({"x": drawn(1, 100)}, {"y": [0.1, 0.2, 0.3]})
        for monitor, n in ((first, 3), (second, 4)):
            monitor.knows("m-1.0.0", reference)
            for value in drawn(n, n):
                monitor.seen("m-1.0.0", Sample({"x": value}, (), {"y": 0.2}, 0.01))
        await first.flush()
        await first.flush()
        assert (await second.tally("m-1.0.0", 30)).calls == 7
        second.failed("m-1.0.0", 5.0)
        assert (await second.tally("m-1.0.0", 30)).errors == 1
        assert (await first.tally("m-1.0.0", 30)).calls == 8
        now[0] += 31 * DAY
        assert (await first.tally("m-1.0.0", 30)).calls == 0
        await store.close()

    asyncio.run(body())


def test_the_first_uses_are_the_reference_where_there_is_none(backend: str, tmp_path: Path) -> None:
    async def body() -> None:
        store = await STORES[backend](tmp_path)
        ledger = store.ledger
        monitors = [Monitor(ledger, lambda: 100_000 * DAY) for _ in range(2)]
        for i, value in enumerate(drawn(1, BASELINE)):
            monitors[i % 2].seen("m-1.0.0", Sample({"x": value}, (), {"y": value / 1000}, 0.01))
            if i % 50 == 0:
                await monitors[i % 2].flush()
        for monitor in (*monitors, *monitors):
            await monitor.flush()
        for monitor in (*monitors, Monitor(ledger, lambda: 100_000 * DAY)):
            reference = await monitor.reference("m-1.0.0")
            assert reference is not None
            assert reference.origin == "first"
            assert sum(reference.inputs["x"].counts) == BASELINE
        row = await ledger.get("model-baseline", "m-1.0.0")
        assert row is not None
        assert row.value.keys() == {"reference"}
        await store.close()

    asyncio.run(body())


def test_a_reference_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in (b"[]", b"{", b'{"inputs": {"x": 1}, "outputs": {}}'):
        with pytest.raises(PackageError, match=r"reference\.json"):
            of_parts(packages.parts(reference_json=content), tmp_path)


CARD = """
[monitoring]
least = 30
missing = 0.9
"""


def package(name: str, version: str = "1.0.0", factor: float = 0.001) -> bytes:
    """With the blood pressures of a cohort around 130."""
    reference = Reference.of(
        {"x": drawn(1, 1000)}, {"y": [x * factor for x in drawn(1, 1000)]}
    ).to_json()
    files = packages.parts(
        name,
        version,
        graph=odd_graphs.scaled(factor),
        expected=120 * factor,
        reference_json=json.dumps(reference).encode(),
    )
    return packages.zipped(files | {"card.toml": files["card.toml"] + CARD.encode()})


def cohort(server: Server, name: str, pressures: list[float]) -> list[str]:
    """Patients with a blood pressure each; their ids."""
    entries: list[Json] = []
    for i, pressure in enumerate(pressures):
        id_ = f"{name}-{i}"
        patient: Json = {"resourceType": "Patient", "id": id_}
        observation = packages.pressure(id_, round(pressure, 1))
        for resource, url in ((patient, f"Patient/{id_}"), (observation, f"Observation/{id_}")):
            entries.append({"resource": resource, "request": {"method": "PUT", "url": url}})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert server.post("", bundle).status_code == 200
    return [f"{name}-{i}" for i in range(len(pressures))]


def installed(server: Server, name: str, **given: Any) -> None:
    pushed = server.send("POST", "/models", content=package(name, **given), headers=ZIP)
    assert pushed.status_code == 200, pushed.text
    query = f"version={given.get('version', '1.0.0')}&reason=test"
    assert server.send("POST", f"/models/{name}/activate?{query}").status_code == 200


def predicted(server: Server, model: str, patients: list[str]) -> None:
    for patient in patients:
        answer = server.get(f"Patient/{patient}/$predict?model={model}")
        assert answer.status_code == 200, answer.text


def monitored(server: Server, model: str) -> list[dict[str, Any]]:
    """The versions, a dict of part to what it holds each; findings are a list."""
    answer = server.send("GET", f"/models/{model}/monitor")
    assert answer.status_code == 200, answer.text
    found = []
    for version in answer.json()["parameter"][1:]:
        told: dict[str, Any] = {"finding": []}
        for part in version["part"]:
            value = next((v for k, v in part.items() if k.startswith("value")), part.get("part"))
            if part["name"] == "finding":
                told["finding"].append(value)
            else:
                told.setdefault(part["name"], value)
        found.append(told)
    return found


@pytest.fixture(scope="module")
def server(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(backend, tmp_path_factory.mktemp("monitor"), model_watch_seconds=1) as made:
        yield made


@pytest.mark.slow
def test_a_server_looks_by_itself(server: Server) -> None:
    """A shifted cohort raises a Flag and a proposal to train anew; the same cohort does not."""
    installed(server, "calm")
    predicted(server, "calm", cohort(server, "calm", drawn(2, 34)))
    installed(server, "drifting")
    predicted(server, "drifting", cohort(server, "moved", drawn(3, 34, 160.0)))

    async def told() -> None:
        for _ in range(600):
            await asyncio.sleep(0.1)
            if await server.domain.store.ledger.scan("model-round"):
                return

    server.run(told())
    for _ in range(300):
        flag = server.get("Flag/drifting-1.0.0.monitoring")
        if flag.status_code == 200:
            break
        server.run(asyncio.sleep(0.2))
    assert flag.json()["status"] == "active"
    assert "input-drift of x" in flag.json()["code"]["text"]
    assert flag.json()["author"] == {"reference": "Device/drifting-1.0.0"}
    task = server.get("Task/drifting-1.0.0.retraining").json()
    assert (task["status"], task["intent"]) == ("requested", "proposal")
    assert task["focus"] == {"reference": "Device/drifting-1.0.0"}
    [calm], [drifting] = monitored(server, "calm"), monitored(server, "drifting")
    assert (calm["calls"], calm["results"], calm["errors"]) == (34, 34, 0)
    assert calm["finding"] == []
    assert any(one.startswith("input-drift of x") for one in drifting["finding"])
    assert any(one.startswith("output-drift of y") for one in drifting["finding"])
    assert server.get("Flag/calm-1.0.0.monitoring").status_code == 404
    assert server.get("Task/calm-1.0.0.retraining").status_code == 404


@pytest.mark.slow
def test_a_challenger_computes_unseen(server: Server) -> None:
    installed(server, "seen")
    pushed = server.send(
        "POST", "/models", content=package("seen", version="2.0.0", factor=0.002), headers=ZIP
    )
    assert pushed.status_code == 200
    query = "version=2.0.0&reason=test&alias=challenger"
    assert server.send("POST", f"/models/seen/activate?{query}").status_code == 200
    [patient] = cohort(server, "shadow", [130.0])
    store = [
        {"name": "model", "valueCode": "seen"},
        {"name": "store", "valueBoolean": True},
    ]
    body = {"resourceType": "Parameters", "parameter": store}
    answer = server.post(f"Patient/{patient}/$predict", body)
    assert "2.0.0" not in answer.text
    stored = server.get(f"RiskAssessment?patient={patient}").json()["entry"]
    assert [e["resource"]["performer"]["reference"] for e in stored] == ["Device/seen-1.0.0"]
    for _ in range(300):
        champion, challenger = monitored(server, "seen")
        if challenger["calls"]:
            break
        server.run(asyncio.sleep(0.1))
    assert (champion["status"], challenger["status"]) == ("champion", "challenger")
    assert (challenger["shadow-calls"], challenger["shadow-difference"]) == (1, 0.13)
    what_if = {
        "name": "override",
        "part": [
            {"name": "feature", "valueCode": "x"},
            {"name": "value", "valueQuantity": packages.pressure("p", 200)["valueQuantity"]},
        ],
    }
    body = {"resourceType": "Parameters", "parameter": [store[0], what_if]}
    assert server.post(f"Patient/{patient}/$predict", body).status_code == 200
    assert monitored(server, "seen")[0]["calls"] == 1


@pytest.mark.slow
def test_metrics_and_refusals(server: Server) -> None:
    installed(server, "metered")
    predicted(server, "metered", cohort(server, "metered", [120.0]))
    text = server.send("GET", "/metrics").text
    assert 'vehr_model_calls_total{model="metered-1.0.0",outcome="result"} 1.0' in text
    assert 'vehr_model_seconds_count{model="metered-1.0.0"} 1.0' in text
    assert 'vehr_model_psi{kind="input",model="metered-1.0.0",name="x"}' in text
    assert server.send("GET", "/models/none/monitor").status_code == 404
    assert server.send("POST", "/models/metered/monitor").status_code == 405


@pytest.mark.slow
def test_outcomes_of_the_record_calibrate(backend: str, tmp_path: Path) -> None:
    more = '[[outcome]]\noutput = "y"\nconcept = "diabetes"\nwithin = "P10Y"\n'
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    files = packages.parts("told", more="")
    files["card.toml"] += more.encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with served(backend, tmp_path, models=tmp_path / "models") as server:
        patients = cohort(server, "c", [130.0] * 3)
        for patient, start in zip(patients, ("2012-01-01", "2025-01-01", None), strict=True):
            assessment = {
                "resourceType": "RiskAssessment",
                "status": "final",
                "subject": {"reference": f"Patient/{patient}"},
                "performer": {"reference": "Device/told-1.0.0"},
                "occurrenceDateTime": "2010-01-01T00:00:00Z",
                "prediction": [
                    {"outcome": {"coding": [{"code": "y"}]}, "probabilityDecimal": 0.25}
                ],
            }
            server.create(assessment)
            if start:
                code = {"coding": [{"system": "http://snomed.info/sct", "code": "73211009"}]}
                condition = {
                    "resourceType": "Condition",
                    "subject": {"reference": f"Patient/{patient}"},
                    "onsetDateTime": start,
                    "code": code,
                }
                server.create(condition)
        server.create(assessment | {"occurrenceDateTime": "2026-01-01T00:00:00Z"})
        answer = server.send("GET", "/models/told/monitor").json()["parameter"][1]["part"]
        [told] = [part["part"] for part in answer if part["name"] == "calibration"]
        values = {p["name"]: next(v for k, v in p.items() if k != "name") for p in told}
        assert (values["n"], values["pending"], values["observed"]) == (3, 1, 1)
        assert values["expected"] == 0.75
