"""What repeats is judged once, but only what is valid by itself."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.definitions.registry import load
from fhir_server.model.problem import Unprocessable
from fhir_server.validation.validate import Validator

PATIENT = {"resourceType": "Patient", "id": "p"}


def observation(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


def test_a_local_reference_is_judged_each_time_by_its_surroundings() -> None:
    validator = Validator(load())
    subject = {"reference": "#p"}
    for _ in range(2):
        validator.check(observation(subject=subject, contained=[PATIENT]))
        with pytest.raises(Unprocessable):
            validator.check(observation(subject=subject))


def test_what_is_valid_in_one_place_is_not_so_in_another() -> None:
    validator = Validator(load())
    reference = {"reference": "Patient/1"}
    validator.check(observation(subject=reference))
    with pytest.raises(Unprocessable):
        validator.check(observation(encounter=reference))


def test_a_fault_is_found_again_and_so_is_a_change_in_place() -> None:
    validator = Validator(load())
    code: dict[str, Any] = {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}
    validator.check(observation(code=code))
    code["coding"][0]["code"] = " "
    for _ in range(2):
        with pytest.raises(Unprocessable):
            validator.check(observation(code=code))
