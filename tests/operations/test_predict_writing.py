"""What ``$predict`` may read and write: scopes, drafts and requests for what is missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from predicting import (
    NOW,
    READ_TYPES,
    Chart,
    Road,
    World,
    complete,
    indexes,
    of_type,
    parameters,
    predict,
    risk_of,
)

from fhir_server.access.drafts import Draft
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.problem import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Unprocessable,
)
from fhir_server.model.resource import Key
from operations.models.publishing import publish
from operations.parameters import decode
from operations.predict import predict_operation
from operations.registry import Invocation

pytestmark = pytest.mark.usefixtures("each_store")


def _scope(*without: str) -> str:
    kinds = [type_ for type_ in READ_TYPES if type_ not in without]
    return " ".join(["patient/Patient.r", *(f"patient/{type_}.rs" for type_ in kinds)])


def test_missing_features_as_one_task_while_it_is_open() -> None:
    world = World(Chart().resources)
    bundle = predict([], parameters(model="score2", missing="request"), world=world)
    (task,) = of_type(bundle, "Task")
    assert (task["status"], task["intent"]) == ("requested", "proposal")
    asked = {c["code"] for one in task["input"] for c in one["type"]["coding"]}
    assert {"8480-6", "2093-3", "2085-9", "72166-2", "sbp", "smoker"} <= asked
    assert task["for"] == {"reference": "Patient/p"}
    assert not of_type(bundle, "RiskAssessment")
    at = Road.runner.run(world.store.position())
    again = predict([], parameters(model="score2", missing="request"), world=world)
    assert of_type(again, "Task") == [task]
    assert Road.runner.run(world.store.position()) == at
    both = predict([], parameters(model=["score2", "prevent"], missing="request"), world=world)
    first, second = of_type(both, "Task")
    assert first == task
    new = {c["code"] for one in second["input"] for c in one["type"]["coding"]}
    assert "bmi" in new and "sbp" not in new
    done = {**task, "status": "completed"}
    Road.runner.run(world.session.write([Draft("PUT", Key("Task", task["id"]), done)]))
    fresh = predict([], parameters(model="score2", missing="request"), world=world)
    assert [t["id"] for t in of_type(fresh, "Task")] != [task["id"]]


def test_of_two_who_ask_at_once_one_makes_the_task() -> None:
    world = World(Chart().resources)
    operation = predict_operation(Road.models, indexes, world.system)
    given = parameters(model="score2", missing="request")

    async def both() -> list[Any]:
        def asked() -> Any:
            arguments = decode(operation.inputs, [], given, operation.body)
            call = Invocation("instance", "Patient", "p", "POST", "b", parse_instant(NOW))
            return operation.handler(arguments, world.session, call)

        return await asyncio.gather(asked(), asked())

    first, second = Road.runner.run(both())
    assert of_type(first, "Task") == of_type(second, "Task") != []


def test_what_asks_for_tasks() -> None:
    chart = Chart()
    with pytest.raises(MethodNotAllowed, match="missing=request"):
        predict(chart.resources, query="model=score2&missing=request")
    reader = World(chart.resources, scope=_scope())
    with pytest.raises(Forbidden, match="Task"):
        predict([], parameters(model="score2", missing="request"), world=reader)
    child = Chart(age=10)
    bundle = predict(child.resources, parameters(model="score2", missing="request"))
    assert not of_type(bundle, "Task")  # it would not help
    full = predict(complete().resources, parameters(model="score2", missing="request"))
    assert of_type(full, "RiskAssessment") and not of_type(full, "Task")


def test_types_that_may_not_be_searched_are_not_taken_as_empty() -> None:
    for denied, model in (
        (("Condition",), "score2"),
        (("Condition",), "prevent"),
        (("Observation",), "score2"),
        (("MedicationRequest", "MedicationStatement"), "prevent"),
    ):
        world = World(complete().resources, scope=_scope(*denied))
        with pytest.raises(Unprocessable, match=f"{denied[0]} may not be searched"):
            predict([], parameters(model=model), world=world)


def test_only_what_the_session_shows_is_used() -> None:
    world = World(complete().resources, scope=_scope())
    assert risk_of(predict([], parameters(model="score2"), world=world)) > 0
    other = [
        {**r, "id": "q"} if r["resourceType"] == "Patient" else r for r in complete().resources
    ]
    world = World(other, scope="patient/*.rs")
    with pytest.raises(NotFound):
        predict([], parameters(model="score2"), world=world)


def test_store_writes_the_drafts_and_nothing_else() -> None:
    world = World(complete().resources)
    before = Road.runner.run(world.store.position())
    predict([], parameters(model="score2"), world=world)
    assert Road.runner.run(world.store.position()) == before
    bundle = predict([], parameters(model="score2", store=True), world=world)
    devices = len(Road.models.versions)
    assert (
        Road.runner.run(world.store.position()) == before + 2 * devices + 2
    )  # cards; then the drafts
    assert Road.runner.run(publish(Road.models, world.system)) == []
    assert Road.runner.run(world.session.read(Key("Device", "score2-1.0.0")))
    (risk,) = of_type(bundle, "RiskAssessment")
    (made,) = of_type(bundle, "Provenance")
    assert risk["meta"]["versionId"] == "1" and risk["status"] == "preliminary"
    assert made["target"] == [{"reference": f"RiskAssessment/{risk['id']}"}]
    stored = Road.runner.run(world.session.read(Key("RiskAssessment", risk["id"])))
    assert loads(stored.body) == risk
    reader = World(complete().resources, scope=_scope())
    with pytest.raises(Forbidden):
        predict([], parameters(model="score2", store=True), world=reader)
    assert Road.runner.run(reader.store.position()) == len(complete().resources)
