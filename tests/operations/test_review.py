"""A clinician decides about a draft: who may, what becomes of it, what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from predicting import NOW, Chart, Road, World, of_type, parameters, predict

from fhir_server.access.policy import ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.roles import Standing
from fhir_server.access.scopes import parse_scopes
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.interactions.cursors import Cursors
from fhir_server.interactions.history import PageSizes
from fhir_server.interactions.search import Searching, scope_filter
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.exchange import Request
from fhir_server.model.problem import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    Problem,
    Unprocessable,
)
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from operations import review
from operations.models.feedback import Feedback, agreement, feedback
from operations.parameters import decode
from operations.registry import Invocation

pytestmark = pytest.mark.usefixtures("each_store")

DOCTOR = {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Novak"}]}


async def _unasked(question: object) -> tuple[Any, ...]:
    raise AssertionError("no terminology here")


SEARCHING = Searching(
    schema=World.schema,
    cursors=Cursors(b"k" * 32),
    sizes=PageSizes(10, 100),
    zone=ZoneInfo("UTC"),
    now=lambda: parse_instant(NOW),
    base="http://127.0.0.1:8080/fhir",
    answer=_unasked,
)


class Ward:
    """A world with a stored draft of CKD-EPI (an Observation) and of SCORE2."""

    def __init__(self) -> None:
        chart = Chart()
        chart.pressure(140)
        chart.smoking("266919005")
        chart.measure("2093-3", 5.5, "mmol/L")
        chart.measure("2085-9", 1.3, "mmol/L")
        chart.measure("2160-0", 0.9, "mg/dL")
        self.world = World([*chart.resources, DOCTOR])
        asked = parameters(model=["score2", "ckd-epi-2021"], store=True)
        bundle = predict([], asked, world=self.world)
        (self.risk,) = of_type(bundle, "RiskAssessment")
        (self.egfr,) = of_type(bundle, "Observation")

    def as_(self, role: str, patients: tuple[str, ...] = ("p",)) -> Session:
        engine = self.world.engine
        scopes = parse_scopes("user/*.cruds patient/*.cruds", engine.definitions.resource_types)
        who = "Patient/p" if role == "patient" else "Practitioner/d"
        principal = Principal(
            "u", scopes, user="u", patient="p", standing=Standing(role, who, patients)
        )
        policy = ScopePolicy(
            principal, engine.definitions.compartment("Patient"), scope_filter(SEARCHING)
        )
        return Session(engine, principal, policy)

    def decide(
        self, resource: dict[str, Any], session: Session | None = None, match: str = "", **said: Any
    ) -> dict[str, Any]:
        listed: list[dict[str, Any]] = []
        for name, value in said.items():
            if name == "edit":
                for output, (member, json) in value.items():
                    part = [{"name": "value", member: json}]
                    if output:
                        part.append({"name": "output", "valueCode": output})
                    listed.append({"name": "edit", "part": part})
            else:
                listed.append({"name": name, "valueString": value})
        given = {"resourceType": "Parameters", "parameter": listed}
        arguments = decode(review.ROW.inputs, [], given)
        type_, headers = resource["resourceType"], {"if-match": match} if match else {}
        request = Request("POST", headers=headers)
        now = parse_instant(NOW)
        call = Invocation("instance", type_, resource["id"], "POST", "b", now, request=request)
        chosen = session or self.as_("family-doctor")
        answer = Road.runner.run(review.review(arguments, chosen, call))
        assert isinstance(answer, dict)
        self.world.session.validate(answer)
        return answer

    def provenances(self) -> list[dict[str, Any]]:
        search = Search((Scan("Provenance"),), count=50, total="none")
        page = Road.runner.run(self.world.session.search(search))
        found = [loads(one.body) for one in page.matches]
        return [p for p in found if p["activity"]["coding"][0]["system"] == review.REVIEW]

    def told(self, model: str) -> list[Feedback]:
        return Road.runner.run(feedback(self.world.store.ledger, model))


@pytest.fixture
def ward() -> Iterator[Ward]:
    yield Ward()


def test_accepted_it_is_final_and_says_by_whom(ward: Ward) -> None:
    final = ward.decide(ward.risk, decision="accept")
    assert (final["status"], final["meta"]["versionId"]) == ("final", "2")
    assert final["prediction"] == ward.risk["prediction"]
    assert {label["code"] for label in final["meta"]["security"]} >= {"AIAST"}
    assert final["note"][0]["authorReference"] == {"reference": "Practitioner/d"}
    assert not any("not part of the record" in note["text"] for note in final["note"])
    (made,) = ward.provenances()
    place = f"RiskAssessment/{ward.risk['id']}/_history"
    assert made["target"] == [{"reference": f"{place}/2"}]
    assert made["entity"][0]["what"] == {"reference": f"{place}/1"}
    roles = {a["type"]["coding"][0]["code"]: a["who"]["reference"] for a in made["agent"]}
    assert roles == {"verifier": "Practitioner/d", "assembler": "Device/score2-1.0.0"}
    (told,) = ward.told("score2-1.0.0")
    assert (told.decision, told.role, told.after) == ("accept", "family-doctor", None)
    assert told.before == float(ward.risk["prediction"][0]["probabilityDecimal"])
    row = Road.runner.run(ward.world.store.ledger.scan("model-feedback"))[0]
    assert ward.risk["id"] not in f"{row.key}{row.value}"


def test_edited_it_is_amended(ward: Ward) -> None:
    said: dict[str, tuple[str, Any]] = {"cvd-10y": ("valueDecimal", Decimal("0.08"))}
    amended = ward.decide(ward.risk, decision="edit", reason="father died at 50", edit=said)
    assert amended["status"] == "amended"
    (prediction,) = amended["prediction"]
    assert prediction["probabilityDecimal"] == Decimal("0.08")
    assert "qualitativeRisk" not in prediction
    assert ward.provenances()[0]["reason"] == [{"text": "father died at 50"}]
    (told,) = ward.told("score2-1.0.0")
    assert (told.decision, told.output, told.after) == ("edit", "cvd-10y", 0.08)
    said = {"": ("valueQuantity", {"value": Decimal(70), "unit": "mL/min/{1.73_m2}"})}
    quantity = ward.decide(ward.egfr, decision="edit", reason="repeated", edit=said)
    assert quantity["valueQuantity"] == {"value": Decimal(70), "unit": "mL/min/{1.73_m2}"}
    both = Ward()
    said = {"": ("valueCode", "high")}
    assert both.decide(both.risk, decision="edit", reason="r", edit=said)["prediction"][0][
        "qualitativeRisk"
    ] == {"text": "high"}


def test_rejected_it_is_an_error(ward: Ward) -> None:
    gone = ward.decide(ward.egfr, decision="reject", reason="amputee")
    assert gone["status"] == "entered-in-error"
    assert agreement(ward.told("ckd-epi-2021-1.0.0")) == 0
    assert agreement([]) is None


def test_an_accepted_value_counts_for_other_models_and_a_draft_does_not(ward: Ward) -> None:
    chart = Chart()
    chart.measure("9318-7", 30, "mg/g")
    drafted = {**ward.egfr, "id": "e"}
    del drafted["meta"]["versionId"], drafted["meta"]["lastUpdated"], drafted["derivedFrom"]
    low = {**drafted["valueQuantity"], "value": Decimal(45)}
    drafted["valueQuantity"] = low
    for status, answers in (("preliminary", False), ("final", True)):
        world = World([*chart.resources, {**drafted, "status": status}])
        try:
            found = predict([], parameters(model="kfre-4"), world=world)
        except Unprocessable:
            found = {}
        assert bool(of_type(found, "RiskAssessment")) is answers


@pytest.mark.parametrize("role", ["patient", "ai-service", "researcher", "admin"])
def test_who_may_not(ward: Ward, role: str) -> None:
    with pytest.raises(Forbidden):
        ward.decide(ward.risk, ward.as_(role), decision="accept")


def test_a_program_does_not_sign(ward: Ward) -> None:
    with pytest.raises(Forbidden, match="by a person"):
        ward.decide(ward.risk, ward.world.session, decision="accept")


def test_whose_patient_it_is_not_finds_nothing(ward: Ward) -> None:
    with pytest.raises(NotFound):
        ward.decide(ward.risk, ward.as_("specialist", ("q",)), decision="accept")


def test_what_is_decided_stays_so(ward: Ward) -> None:
    ward.decide(ward.risk, decision="accept")
    with pytest.raises(Conflict, match="final"):
        ward.decide(ward.risk, decision="reject", reason="late")
    with pytest.raises(PreconditionFailed):
        ward.decide(ward.egfr, match='W/"2"', decision="accept")
    assert ward.decide(ward.egfr, match='W/"1"', decision="accept")["status"] == "final"


def test_of_two_at_once_one_decides(ward: Ward) -> None:
    async def both() -> list[Any]:
        arguments = decode(
            review.ROW.inputs,
            [],
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "decision", "valueCode": "accept"}],
            },
        )
        id_ = ward.risk["id"]
        call = Invocation("instance", "RiskAssessment", id_, "POST", "b", parse_instant(NOW))
        acts = [review.review(arguments, ward.as_("nurse"), call) for _ in range(2)]
        return await asyncio.gather(*acts, return_exceptions=True)

    found = Road.runner.run(both())
    assert sum(isinstance(one, Conflict) for one in found) == 1
    assert len(ward.told("score2-1.0.0")) == 1


@pytest.mark.parametrize(
    ("said", "problem", "text"),
    [
        ({"decision": "maybe"}, BadRequest, "accept, edit, reject"),
        ({"decision": "reject"}, Unprocessable, "reason"),
        ({"decision": "edit", "reason": "r"}, Unprocessable, "value is missing"),
        ({"decision": "accept", "edit": {"": ("valueDecimal", 1)}}, BadRequest, "edit"),
        (
            {"decision": "edit", "reason": "r", "edit": {"": ("valueDecimal", 2)}},
            Unprocessable,
            "from 0 to 1",
        ),
        (
            {"decision": "edit", "reason": "r", "edit": {"": ("valueBoolean", True)}},
            Unprocessable,
            "one of valueDecimal",
        ),
        (
            {"decision": "edit", "reason": "r", "edit": {"x": ("valueDecimal", 1)}},
            Unprocessable,
            "has no 'x'",
        ),
    ],
)
def test_what_is_refused(
    ward: Ward, said: dict[str, Any], problem: type[Problem], text: str
) -> None:
    with pytest.raises(problem, match=text):
        ward.decide(ward.risk, **said)
    assert ward.told("score2-1.0.0") == []


def test_what_no_model_drafted_is_not_reviewed(ward: Ward) -> None:
    search = Search((Scan("Observation"),), count=50, total="none")
    page = Road.runner.run(ward.world.session.search(search))
    plain = next(loads(o.body) for o in page.matches if b"AIAST" not in o.body)
    with pytest.raises(Unprocessable, match="no draft"):
        ward.decide(plain, decision="accept")
    assert Road.runner.run(ward.world.session.read(Key("Observation", plain["id"])))
