"""Alerts that follow the record: once, raised when it gets worse, over when somebody decided."""

from __future__ import annotations

from typing import Any

import pytest
from predicting import SNOMED, Chart
from test_automatic import Hospital

from fhir_server.model.datatypes import format_instant
from fhir_server.model.problem import NotFound, Problem, Unavailable
from operations.models.package import ModelPackage
from operations.models.registry import Registry

pytestmark = pytest.mark.usefixtures("each_store")

HOUR = 3_600_000_000
VITALS = {
    "9279-1": ("/min", 16),
    "59408-5": ("%", 97),
    "8480-6": ("mm[Hg]", 120),
    "8867-4": ("/min", 75),
    "8310-5": ("Cel", 37),
}


class Ward(Hospital):
    """A hospital whose nurses observe the patient now."""

    def observe(self, **values: float) -> None:
        """All vital signs; ``rate``, ``pulse``: other than usual."""
        at, chart = format_instant(self.clock), Chart()
        given = {"9279-1": values.get("rate"), "8867-4": values.get("pulse")}
        for code, (unit, usual) in VITALS.items():
            chart.measure(code, given.get(code) or usual, unit, at)
        alert = {"coding": [{"system": SNOMED, "code": "248234008"}]}
        code = {"coding": [{"system": "http://loinc.org", "code": "67775-7"}]}
        about = {"effectiveDateTime": at, "encounter": {"reference": "Encounter/stay"}}
        chart.add("Observation", status="final", code=code, valueCodeableConcept=alert, **about)
        seen = [{**one, "id": f"{one['id']}-{self.clock}"} for one in chart.resources[1:]]
        self.put(*seen)
        self.rounds()

    def alerts(self) -> list[dict[str, Any]]:
        return [r for r in self.of("RiskAssessment") if "identifier" in r and "alert" in str(r)]

    def flags(self) -> list[dict[str, Any]]:
        return sorted(self.of("Flag"), key=lambda flag: flag["period"]["start"])

    def decide(self, status: str = "final") -> None:
        for one in self.alerts():
            if one["status"] == "preliminary":
                self.put({**one, "status": status})
        self.rounds()


def _ward() -> Ward:
    stay = {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "in-progress",
        "class": {"code": "IMP"},
        "subject": {"reference": "Patient/p"},
    }
    return Ward(stay)


def test_an_alert_is_a_draft_and_a_flag() -> None:
    ward = _ward()
    ward.observe()
    assert ward.alerts() == ward.flags() == []
    ward.observe(rate=25, pulse=115)  # 3 and 2
    (risk,), (flag,) = ward.alerts(), ward.flags()
    assert risk["id"] == flag["id"] and risk["status"] == "preliminary"
    assert flag["status"] == "active" and flag["subject"] == {"reference": "Patient/p"}
    assert (
        flag["author"]["reference"] == risk["performer"]["reference"] == "Device/news2-trend-1.0.0"
    )
    assert flag["category"][0]["coding"][0]["code"] == "safety"
    assert "medium: urgent assessment" in flag["code"]["text"] and "news2 5" in flag["code"]["text"]
    (said,) = risk["prediction"]
    assert said["qualitativeRisk"] == {"text": "medium: urgent assessment"}
    assert "probabilityDecimal" not in said and len(risk["basis"]) >= 6
    assert {label["code"] for label in risk["meta"]["security"]} >= {"AIAST"}
    assert flag["meta"]["security"] == risk["meta"]["security"]
    assert flag["encounter"] == risk["encounter"] == {"reference": "Encounter/stay"}
    for one in (risk, flag):
        ward.world.session.validate(one)
    made = [p for p in ward.of("Provenance") if risk["id"] in p["target"][0]["reference"]]
    assert len(made) == 1


def test_it_is_not_repeated_while_it_is_open() -> None:
    ward = _ward()
    for _ in range(3):
        ward.observe(rate=25, pulse=115)
        ward.clock += 9 * HOUR  # beyond the refractory period too
    assert [flag["meta"]["versionId"] for flag in ward.flags()] == ["1"]
    assert [risk["meta"]["versionId"] for risk in ward.alerts()] == ["1"]


def test_a_higher_level_raises_the_open_alert() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    (first,) = ward.flags()
    ward.clock += HOUR
    ward.put({**_oxygen(ward), "id": "oxygen"})
    ward.rounds()  # 2 more: 7
    (flag,), (risk,) = ward.flags(), ward.alerts()
    assert (flag["id"], flag["meta"]["versionId"]) == (first["id"], "2")
    assert flag["period"] == first["period"] and "high: emergency" in flag["code"]["text"]
    assert risk["meta"]["versionId"] == "2" and risk["status"] == "preliminary"


def _oxygen(ward: Ward) -> dict[str, Any]:
    return Chart().measure("3151-8", 2, "L/min", format_instant(ward.clock))


@pytest.mark.parametrize("status", ["final", "amended", "entered-in-error"])
def test_after_a_decision_the_flag_is_over_and_it_is_quiet(status: str) -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.clock += HOUR
    ward.decide(status)
    (flag,) = ward.flags()
    assert flag["status"] == "inactive" and flag["period"]["end"] > flag["period"]["start"]
    ward.observe(rate=25, pulse=115)
    assert len(ward.flags()) == 1
    ward.clock += 8 * HOUR
    ward.observe(rate=25, pulse=115)
    assert [one["status"] for one in ward.flags()] == ["inactive", "active"]
    assert sorted(one["status"] for one in ward.alerts()) == sorted([status, "preliminary"])


def test_within_the_quiet_time_a_higher_level_is_told() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.decide()
    ward.put({**_oxygen(ward), "id": "oxygen"})
    ward.rounds()
    assert [one["status"] for one in ward.flags()] == ["inactive", "active"]
    assert "high: emergency" in ward.flags()[1]["code"]["text"]


def test_a_signed_alert_is_never_written_over() -> None:
    """Its flag may still be open when it gets worse."""
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    (risk,) = ward.alerts()
    ward.put({**risk, "status": "final"}, {**_oxygen(ward), "id": "oxygen"})
    ward.rounds()
    found = {one["id"]: one for one in ward.alerts()}
    assert found[risk["id"]]["status"] == "final" and len(found) == 2
    assert {f["id"]: f["status"] for f in ward.flags()}[risk["id"]] == "inactive"


def _states(ward: Ward) -> list[tuple[str, str]]:
    """Of each flag, and of the draft beside it."""
    risks = {one["id"]: one["status"] for one in ward.alerts()}
    return [(flag["status"], risks[flag["id"]]) for flag in ward.flags()]


def test_the_flag_ends_when_values_are_in_order_and_goes_on_when_they_are_not() -> None:
    """The draft still waits for somebody to have looked."""
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    (first,) = ward.flags()
    ward.clock += HOUR
    ward.observe()
    (flag,) = ward.flags()
    assert flag["period"]["end"] > flag["period"]["start"] == first["period"]["start"]
    assert _states(ward) == [("inactive", "preliminary")]
    ward.world.session.validate(flag)
    ward.clock += HOUR
    ward.observe(rate=25, pulse=115)  # within the refractory period: nobody has decided
    (again,) = ward.flags()
    assert again["id"] == flag["id"] and again["period"] == first["period"]
    assert _states(ward) == [("active", "preliminary")]


def test_what_comes_back_long_after_it_ended_is_another_alert() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.observe()
    ward.clock += 9 * HOUR
    ward.observe(rate=25, pulse=115)
    assert _states(ward) == [("inactive", "preliminary"), ("active", "preliminary")]


def test_an_alert_that_nothing_is_left_to_rest_on_ends_by_the_clock() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.clock += 23 * HOUR
    ward.rounds()
    assert _states(ward) == [("active", "preliminary")]
    ward.clock += 2 * HOUR
    ward.rounds()
    assert _states(ward) == [("inactive", "preliminary")]


def test_values_that_are_only_in_part_too_old_end_nothing() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.clock += 25 * HOUR
    ward.put({**_oxygen(ward), "id": "oxygen"})
    ward.rounds()
    assert _states(ward) == [("active", "preliminary")]


def test_a_value_that_cannot_be_used_ends_nothing() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    absurd = Chart().measure("8310-5", 98.6, "Cel", format_instant(ward.clock))
    ward.put({**absurd, "id": "absurd"})
    ward.rounds()
    assert _states(ward) == [("active", "preliminary")]


@pytest.mark.parametrize(("raised", "state"), [(NotFound, "inactive"), (Unavailable, "active")])
def test_the_alert_of_a_retired_model_ends_but_not_of_one_that_cannot_be_run(
    monkeypatch: pytest.MonkeyPatch, raised: type[Problem], state: str
) -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)

    async def champion(*_: object) -> ModelPackage:
        raise raised("not now")

    monkeypatch.setattr(Registry, "champion", champion)
    ward.clock += HOUR
    ward.rounds()
    assert _states(ward) == [(state, "preliminary")]


def test_the_alert_of_who_died_ends() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    died = {"deceasedDateTime": format_instant(ward.clock)}
    ward.put({**Chart().patient, **died})
    ward.clock += HOUR
    ward.rounds()
    assert _states(ward) == [("inactive", "preliminary")]


def test_a_decision_after_it_ended_by_itself_is_quiet_as_any() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.observe()
    ward.decide("final")
    ward.clock += HOUR
    ward.observe(rate=25, pulse=115)
    assert _states(ward) == [("inactive", "final")]


def test_each_patient_has_alerts_of_his_own() -> None:
    ward = _ward()
    ward.observe(rate=25, pulse=115)
    ward.put({**Chart().patient, "id": "q"})
    moved = [o for o in ward.of("Observation") if "identifier" not in o]
    ward.put(*({**o, "id": f"q-{o['id']}", "subject": {"reference": "Patient/q"}} for o in moved))
    ward.rounds()
    assert {flag["subject"]["reference"] for flag in ward.flags()} == {"Patient/p", "Patient/q"}
