"""C14, context-standalone-encounter: what else is open when an app starts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Server
from tests.smart.flow import AUTH, App, Browser, approve, bearer, forms, parameters, tokens_for
from tests.smart.test_b_authorize import launch_of

SCOPE = "launch/patient launch/encounter patient/*.rs"
CONTEXT = [
    {"reference": "ImagingStudy/123"},
    {"reference": "DiagnosticReport/7", "role": "https://ehr.example/role/open"},
    {"canonical": "https://example.org/Questionnaire/q|1", "type": "Questionnaire"},
    {"identifier": {"system": "urn:x", "value": "1"}, "type": "Task", "role": "launch"},
]


def visits_of(server: Server, browser: Browser, app: App, patient: str = "a") -> Any:
    page = browser.sign_in(browser.get(app.authorize(SCOPE)), "doc")
    return browser.submit(page, ("patient", patient))


def test_a_standalone_app_is_told_the_encounter(lasting: Server) -> None:
    app, browser = App(lasting), Browser(lasting)
    page = visits_of(lasting, browser, app)
    assert forms(page)[-1].values("encounter") == ["e-a", ""] and "Ann Family-a" in page.text
    answer = approve(browser, browser.submit(page, ("encounter", "e-a")))
    tokens = app.redeem(parameters(answer)["code"]).json()
    assert (tokens["patient"], tokens["encounter"]) == ("a", "e-a")
    headers = bearer(tokens)
    assert lasting.get("Encounter/e-a", headers=headers).status_code == 200
    about = App(lasting, "keeper", secret="a secret of the keeper 123")
    assert about.post("introspect", token=tokens["access_token"]).json() == {"active": False}


def test_none_may_be_chosen_and_the_scope_may_be_refused(clinic: Server) -> None:
    app, browser = App(clinic), Browser(clinic)
    answer = approve(browser, browser.submit(visits_of(clinic, browser, app), ("encounter", "")))
    assert "encounter" not in app.redeem(parameters(answer)["code"]).json()
    browser = Browser(clinic)
    page = browser.submit(visits_of(clinic, browser, app), ("encounter", "e-a"))
    kept = ["launch/patient", "patient/*.rs"]
    answer = approve(browser, page, tick=lambda form: kept)
    tokens = app.redeem(parameters(answer)["code"]).json()
    assert "encounter" not in tokens and tokens["patient"] == "a"


def test_b15_a_foreign_encounter_is_refused(clinic: Server) -> None:
    app, browser = App(clinic), Browser(clinic)
    page = visits_of(clinic, browser, app)
    for foreign in ("e-b", "e-c", "nothing"):
        assert browser.submit(page, ("encounter", foreign)).status_code == 403
    form = forms(page)[-1]
    assert browser.post(form.action, [("encounter", "e-a"), *form.hidden()[:1]]).status_code == 403


def test_a_patient_without_encounters_is_not_asked(clinic: Server) -> None:
    system = clinic.bearer("system/*.cruds")
    clinic.put("Patient/d", {"resourceType": "Patient", "id": "d"}, headers=system)
    clinic.relation("doc", "d")
    tokens = tokens_for(App(clinic), SCOPE, patient="d")
    assert tokens["patient"] == "d" and "encounter" not in tokens


def test_c14_fhir_context_is_given_as_it_came(lasting: Server) -> None:
    launch = launch_of(lasting, patient="a", fhirContext=CONTEXT, intent="x")  # type: ignore[arg-type]
    app = App(lasting)
    tokens = tokens_for(app, "launch patient/*.rs offline_access", request={"launch": launch})
    assert tokens["fhirContext"] == CONTEXT and tokens["intent"] == "x"
    again = app.refresh(tokens["refresh_token"]).json()
    assert again["fhirContext"] == CONTEXT
    for item in tokens["fhirContext"]:
        assert isinstance(item, dict) and {"reference", "canonical", "identifier"} & set(item)
    own = lasting.send(
        "POST",
        f"{AUTH}/introspect",
        content=f"token={again['access_token']}".encode(),
        headers={**bearer(again), "content-type": "application/x-www-form-urlencoded"},
    )
    assert own.json()["fhirContext"] == CONTEXT


@pytest.mark.parametrize(
    "context",
    [
        "ImagingStudy/1",
        {"reference": "ImagingStudy/1"},
        ["ImagingStudy/1"],
        [{}],
        [{"role": "launch"}],
        [{"reference": "Patient/a"}],
        [{"reference": "Encounter/e-a"}],
        [{"reference": "https://evil.example/fhir/ImagingStudy/1"}],
        [{"reference": "Nothing/1"}],
        [{"reference": "ImagingStudy/1/../../Patient/a"}],
        [{"reference": "ImagingStudy/1", "type": "Patient"}],
        [{"identifier": {"value": "1"}, "type": "Patient"}],
        [{"reference": "ImagingStudy/1", "role": ""}],
        [{"reference": "ImagingStudy/1", "role": "mine"}],
        [{"reference": 1}],
        [{"canonical": "Questionnaire/q"}],
        [{"identifier": "1"}],
        [{"reference": "ImagingStudy/1", "more": 1}],
        [{"reference": "ImagingStudy/1"}] * 17,
    ],
)
def test_c14_what_an_app_could_not_rely_on_is_refused(clinic: Server, context: Any) -> None:
    headers = {**clinic.bearer("user/*.rs", user="doc"), "content-type": "application/json"}
    body = {"client_id": "app", "patient": "a", "fhirContext": context}
    answer = clinic.post(f"{AUTH}/launch", body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"] == "invalid_request"
