"""$consent-templates, $consent, $consent-preview, $consent-history: what patients decide with."""

from __future__ import annotations

import pytest

from tests.consent.worlds import to
from tests.operations.consent_tools.wards import CHECK, PREVIEW, Preview, Ward, parameters
from tests.serving import Json, issue


def statuses(ward: Ward, name: str, *keys: str) -> list[int]:
    return [ward.server.get(key, headers=ward.readers[name]).status_code for key in keys]


def test_what_the_templates_do(ward: Ward) -> None:
    shown = ["Observation/v2", "Observation/v3", "Encounter/e1"]
    sensitive = ["Observation/h1", "Condition/h2", "Encounter/h4"]
    assert statuses(ward, "d", *shown, *sensitive) == [200] * 3 + [404] * 3
    made = ward.template("family-doctor")
    assert statuses(ward, "d", *shown, *sensitive) == [200] * 6
    assert statuses(ward, "e", *shown, *sensitive) == [200] * 3 + [404] * 3
    ward.decide(revoke=made["id"])
    made = ward.template("sensitive-only-here")
    assert statuses(ward, "d", *shown, *sensitive) == [200] * 3 + [404] * 3
    assert statuses(ward, "e", *shown, *sensitive) == [200] * 3 + [200, 200, 404]
    ward.decide(revoke=made["id"])
    made = ward.template("hide-data")
    assert statuses(ward, "d", *shown) == [404] * 3, "v2 was recorded in e1"
    assert statuses(ward, "e", *shown) == [200] * 3
    assert statuses(ward, "d", "Patient/p1") == [200]
    ward.decide(revoke=made["id"])
    made = ward.template("hide-time")
    assert statuses(ward, "d", *shown, "Observation/v4") == [404, 404, 200, 200]
    ward.decide(revoke=made["id"])
    made = ward.template("not-this-person")
    assert statuses(ward, "e", "Patient/p1", *shown) == [404] * 4
    assert statuses(ward, "d", *shown) == [200] * 3
    ward.decide(revoke=made["id"])
    ward.template("treating-team")
    ward.template("research-none")
    assert statuses(ward, "d", *shown, *sensitive) == [200] * 3 + [404] * 3
    assert statuses(ward, "e", "Patient/p1", *shown) == [404] * 4


def test_a_denial_wins_over_what_another_decision_permits(ward: Ward) -> None:
    ward.template("family-doctor")
    ward.decide(template="hide-kind", label="HIV", understood=True)
    assert statuses(ward, "d", "Observation/h1", "Condition/h2") == [404, 200]
    preview = ward.preview("actor=Practitioner/d")
    [row] = [r for r in preview.rows("hidden") if r["resource"]["reference"] == "Observation/h1"]
    assert row["category"] == "HIV" and row["rule"] == "provision.provision[0]"
    assert preview.one("warning")


def test_nothing_is_deleted_and_each_act_is_told(ward: Ward) -> None:
    made = ward.template("family-doctor")
    again = ward.template("family-doctor", until="2999-01-01", replaces=made["id"])
    assert again["id"] == made["id"] and again["meta"]["versionId"] == "2"
    ended = ward.decide(revoke=made["id"])
    assert ended["status"] == "inactive" and ended["meta"]["versionId"] == "3"
    assert statuses(ward, "d", "Observation/h1") == [404]
    assert ward.decide(revoke=made["id"])["meta"]["versionId"] == "3", "it is withdrawn already"
    url = f"Consent/{made['id']}"
    versions = ward.server.get(f"{url}/_history", headers=ward.patient).json()["entry"]
    assert [v["resource"]["status"] for v in versions] == ["inactive", "active", "active"]
    found = ward.server.get(f"Provenance?target={url}", headers=ward.system).json()["entry"]
    targets = {e["resource"]["target"][0]["reference"] for e in found}
    assert targets == {f"{url}/_history/{n}" for n in (1, 2, 3)}
    answer = ward.server.get("Patient/p1/$consent-history?language=uk", headers=ward.patient)
    CHECK(answer.json())
    rows = [r for r in Preview(answer.json()).rows("entry") if url in r["consent"]["reference"]]
    assert [r["act"] for r in rows] == ["withdrawn", "changed", "given"]
    assert "2999-01-01" in rows[1]["text"] and rows[0]["who"] == to("Patient/p1")
    assert ward.server.delete(url, headers=ward.patient).status_code == 403


def test_patients_see_whence_their_own_decisions_are(ward: Ward) -> None:
    """R4 has the Provenance of a Consent in nobody's compartment; the patients, and who acts for
    them, read that of their own decisions, withdrawn ones too, and no other."""
    made = ward.template("family-doctor")
    ward.decide(revoke=made["id"])
    foreign: Json = {"resourceType": "Consent", "status": "active", "patient": to("Patient/p3")}
    foreign |= {"scope": {"text": "x"}, "category": [{"text": "x"}], "policyRule": {"text": "x"}}
    other = ward.server.post("Consent", foreign, headers=ward.system).json()["id"]
    provenance: Json = {"resourceType": "Provenance", "recorded": "2024-01-01T00:00:00Z"}
    provenance |= {"agent": [{"who": to("Patient/p1")}]}
    for target in (f"Consent/{other}", "Observation/v2"):
        body = provenance | {"target": [to(target)]}
        assert ward.server.post("Provenance", body, headers=ward.system).status_code == 201
    of_old, of_made = "Consent/c1/_history/2", f"Consent/{made['id']}/_history"
    for headers in (ward.patient, ward.delegate):
        found = ward.server.get("Provenance", headers=headers).json()["entry"]
        by = {e["resource"]["target"][0]["reference"]: e["resource"]["id"] for e in found}
        assert "Observation/v2" in by
        decisions = {of_old, f"{of_made}/1", f"{of_made}/2"}
        assert {one for one in by if one.startswith("Consent/")} == decisions
        url = f"Provenance/{by[of_old]}"
        for place in (url, f"{url}/_history/1"):
            assert ward.server.get(place, headers=headers).status_code == 200
            assert ward.server.get(place, headers=ward.doctor).status_code == 404
    assert "Consent/" not in ward.server.get("Provenance", headers=ward.doctor).text
    narrow = ward.server.bearer("user/Provenance.rs?agent=Patient/p2", user="p")
    assert "entry" not in ward.server.get("Provenance", headers=narrow).json()


def test_there_is_one_decision_about_research(ward: Ward) -> None:
    first = ward.template("research-de-identified")
    second = ward.template("research-none")
    assert second["id"] == first["id"] and second["meta"]["versionId"] == "2"
    ward.server.put("Consent/x", {**first, "id": "x"}, headers=ward.system)
    ward.template("research-none")
    found = ward.server.get("Consent?patient=p1&status=active", headers=ward.patient).json()
    assert found["total"] == 1


def test_who_may(ward: Ward) -> None:
    """Clinicians 403 by what they are; another patient and one that is not there alike."""
    server, body = ward.server, parameters(template="research-none")
    tools = ("$consent-templates", "$consent-preview?actor=Practitioner/d", "$consent-history")
    for tool in tools:
        for patient in ("p1", "p2", "unused"):
            url = f"Patient/{patient}/{tool}"
            assert server.get(url, headers=ward.doctor).status_code == 403
            expected = 200 if patient == "p1" else 404
            assert server.get(url, headers=ward.patient).status_code == expected
        assert server.get(f"Patient/p1/{tool}", headers=ward.system).status_code == 200
        assert server.get(f"Patient/p1/{tool}", headers=ward.delegate).status_code == 200
    for patient in ("p1", "p2", "unused"):
        url = f"Patient/{patient}/$consent"
        assert server.post(url, body, headers=ward.doctor).status_code == 403
        expected = 200 if patient == "p1" else 404
        assert server.post(url, body, headers=ward.patient).status_code == expected
    absent, other = (
        server.post(f"Patient/{p}/$consent", body, headers=ward.patient).text.replace(p, "*")
        for p in ("unused", "p2")
    )
    assert absent == other
    assert server.get("Patient/p1/$consent", headers=ward.patient).status_code == 405


def test_an_app_needs_the_scope(ward: Ward) -> None:
    template = "research-none"
    for scope in ("user/*.rs", "user/Consent.rs user/*.c?_tag=x", "user/*.rs user/Consent.c"):
        if "?" in scope:
            scope = "user/*.rs user/Consent.cu?status=active"
        headers = ward.server.bearer(scope, user="p")
        assert ward.ask(headers, template=template).status_code == 403, scope
    narrow = ward.server.bearer("user/Patient.r user/Consent.crus", user="p")
    assert ward.ask(narrow, template=template).status_code == 200
    launched = ward.server.bearer("patient/*.rs patient/Consent.cu", user="p", patient="p1")
    assert ward.ask(launched, template=template).status_code == 200
    direct = {"resourceType": "Consent", "status": "active", "patient": to("Patient/p1")}
    for headers in (ward.patient, launched, ward.delegate):
        assert ward.server.post("Consent", direct, headers=headers).status_code == 403


def test_who_acts_for_a_patient_is_named(ward: Ward) -> None:
    made = ward.decide(ward.delegate, template="research-none")
    assert made["performer"] == [to("Patient/p2")]
    url = f"Provenance?target=Consent/{made['id']}"
    [entry] = ward.server.get(url, headers=ward.system).json()["entry"]
    assert entry["resource"]["agent"][0]["onBehalfOf"] == to("Patient/p1")
    assert ward.server.get(f"Consent/{made['id']}", headers=ward.patient).status_code == 200
    assert ward.server.get(f"Consent/{made['id']}", headers=ward.doctor).status_code == 404


BAD: dict[str, tuple[int, Json]] = {
    "nothing": (400, {}),
    "both": (400, {"template": "research-none", "revoke": "c1"}),
    "unknown template": (400, {"template": "x"}),
    "no actor": (422, {"template": "family-doctor"}),
    "an actor that is none": (422, {"template": "family-doctor", "actor": "Observation/v2"}),
    "an actor of no use": (422, {"template": "family-doctor", "actor": "Organization/z"}),
    "unknown actor": (422, {"template": "family-doctor", "actor": "Practitioner/unused"}),
    "no reference": (422, {"template": "family-doctor", "actor": "https://x/Practitioner/d"}),
    "unknown label": (422, {"template": "hide-kind", "label": "XYZ"}),
    "label where none goes": (422, {"template": "research-none", "label": "HIV"}),
    "another's data": (422, {"template": "hide-data", "data": "Observation/o2"}),
    "unknown data": (422, {"template": "hide-data", "data": "Observation/unused"}),
    "over": (422, {"template": "research-none", "until": "2020-01-01"}),
    "another's consent": (404, {"revoke": "c2"}),
    "unknown consent": (404, {"revoke": "unused"}),
    "unknown language": (400, {"template": "research-none", "language": "xx"}),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_is_refused(ward: Ward, name: str) -> None:
    status, given = BAD[name]
    other = {"resourceType": "Consent", "id": "c2", "patient": to("Patient/p2")}
    made = ward.server.get("Consent/c1", headers=ward.system).json()
    ward.twin.put({**made, **other, "status": "active"})
    answer = ward.ask(understood=True, **given)
    assert answer.status_code == status, answer.text
    issue(answer)


def test_drafts_and_actors_of_others_tell_nothing(ward: Ward) -> None:
    draft = ward.decide(template="research-none", draft=True)
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "actor", "valueReference": to("Practitioner/d")},
            {"name": "consent", "resource": {**draft, "patient": to("Patient/p2")}},
        ],
    }
    answer = ward.server.post(PREVIEW, body, headers=ward.patient)
    assert answer.status_code == 422, answer.text
    other, unused = (
        ward.server.get(f"{PREVIEW}?actor=Patient/{p}", headers=ward.patient)
        for p in ("p2", "unused")
    )
    assert other.status_code == 422
    assert other.text.replace("p2", "*") == unused.text.replace("unused", "*")
