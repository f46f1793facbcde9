"""$consent-templates, $consent, $consent-preview, $consent-history: what patients decide with.

A preview is compared with what the server really shows to the person, resource by resource.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.roles import SHARED
from fhir_server.access.ties import EXTENSION
from fhir_server.definitions.registry import load
from fhir_server.validation.validate import Validator
from operations.consenting.templates import TEMPLATES, Act, Choice, Template, consent, parse
from operations.consenting.words import EN, LANGUAGES
from tests.consent.worlds import Twin, to
from tests.serving import BACKENDS, Json, issue, served

CHECK = Validator(load()).check
Bearer = dict[str, str]
PREVIEW = "Patient/p1/$consent-preview"
VALUES: dict[str, tuple[str, Any]] = {
    "template": ("valueCode", None),
    "actor": ("valueReference", to),
    "label": ("valueCode", None),
    "data": ("valueReference", to),
    "period": ("valuePeriod", None),
    "until": ("valueDate", None),
    "replaces": ("valueId", None),
    "revoke": ("valueId", None),
    "understood": ("valueBoolean", None),
    "draft": ("valueBoolean", None),
    "language": ("valueCode", None),
}
GIVEN: dict[str, Json] = {
    "family-doctor": {"actor": "Practitioner/d"},
    "sensitive-only-here": {"actor": "Organization/z", "label": ["HIV", "SUD"]},
    "hide-kind": {"label": "R", "actor": "Practitioner/d"},
    "hide-kind-always": {"label": ["HIV", "PSY"], "actor": "Practitioner/d"},
    "hide-data": {"data": ["Encounter/e1", "Observation/v3"], "actor": "Practitioner/d"},
    "hide-time": {"period": {"start": "2024-03-02", "end": "2024-03-03"}},
    "not-this-person": {"actor": ["PractitionerRole/er"]},
    "treating-team": {"actor": "Practitioner/d"},
    "research-de-identified": {},
    "research-none": {},
}


def parameters(**given: Any) -> Json:
    parts: list[Json] = []
    for name, values in given.items():
        member, made = VALUES[name]
        every = values if isinstance(values, list) else [values]
        parts += ({"name": name, member: made(value) if made else value} for value in every)
    return {"resourceType": "Parameters", "parameter": parts}


class Ward:
    """P1 has decided nothing yet. D treats P1; E of the Organization z does so too; F does not;
    G acts for P1."""

    def __init__(self, backend: str, folder: Path) -> None:
        self._served = served(backend, folder, open_=False)
        self.server = self._served.__enter__()
        self.twin = Twin(self.server, full=True)
        self.system, self.doctor, self.patient = (
            self.twin.system,
            self.twin.doctor,
            self.twin.patient,
        )
        for name in "ef":
            self.twin.put(
                {"resourceType": "Practitioner", "id": name, "name": [{"family": name.upper()}]}
            )
        role = {"practitioner": to("Practitioner/e"), "organization": to("Organization/z")}
        self.twin.put({"resourceType": "PractitionerRole", "id": "er", **role})
        for name, kind in (("e", "consultant"), ("f", "family-doctor")):
            self.server.user(name, kind, f"Practitioner/{name}")
        self.server.relation("e", "p1")
        self.server.user("g", "patient", "Patient/p2")
        self.server.relation("g", "p1")
        self.readers = {
            name: self.server.bearer("user/*.cruds", user=name) for name in ("d", "e", "f")
        }
        self.delegate = self.server.bearer("user/*.cruds", user="g")
        self.decide(revoke="c1")

    def close(self) -> None:
        self._served.__exit__(None, None, None)

    def ask(self, by: Bearer | None = None, **given: Any) -> Any:
        headers = by or self.patient
        return self.server.post("Patient/p1/$consent", parameters(**given), headers=headers)

    def decide(self, by: Bearer | None = None, **given: Any) -> Json:
        """The Consent."""
        answer = self.ask(by, **given)
        assert answer.status_code == 200, answer.text
        CHECK(answer.json())
        made: Json = answer.json()["parameter"][0]["resource"]
        return made

    def template(self, code: str, **given: Any) -> Json:
        return self.decide(template=code, understood=True, **GIVEN[code], **given)

    def preview(self, query: str, draft: Json | None = None, by: Bearer | None = None) -> Preview:
        headers = by or self.patient
        if draft is None:
            answer = self.server.get(f"{PREVIEW}?{query}", headers=headers)
        else:
            parts: list[Json] = [{"name": "consent", "resource": draft}]
            for pair in query.split("&"):
                name, _, value = pair.partition("=")
                parts.append({"name": name, "valueString": value})
            body = {"resourceType": "Parameters", "parameter": parts}
            answer = self.server.post(PREVIEW, body, headers=headers)
        assert answer.status_code == 200, answer.text
        CHECK(answer.json())
        return Preview(answer.json())

    def real(self, name: str, **headers: str) -> tuple[set[str], set[str]]:
        """Of what the patient has: what the server shows this user, and what it does not."""
        found: tuple[set[str], set[str]] = set(), set()
        history = self.server.get("_history?_count=500", headers=self.system).json()["entry"]
        # The Provenance of consents is nobody's: it is not in the record that is previewed.
        tied = {e["resource"]["id"] for e in history if EXTENSION in str(e.get("resource"))}
        for key in {"/".join(entry["fullUrl"].split("/")[-2:]) for entry in history}:
            type_, _, id_ = key.partition("/")
            beside = type_ == "Provenance" and id_ not in tied
            if beside or type_ in SHARED | {"Binary"} or self._status(key, self.patient) != 200:
                continue
            shown = self._status(key, self.readers[name] | headers) == 200
            url = f"{type_}?_id={id_}&_summary=count"
            searched = self.server.get(url, headers=self.readers[name] | headers).json()
            assert (searched.get("total") == 1) is shown, key
            found[not shown].add(key)
        return found

    def _status(self, url: str, headers: Bearer) -> int:
        return int(self.server.get(url, headers=headers).status_code)


class Preview:
    def __init__(self, body: Json) -> None:
        self.parts: list[Json] = body["parameter"]

    def one(self, name: str) -> Any:
        part = next(p for p in self.parts if p["name"] == name)
        return next(value for member, value in part.items() if member != "name")

    def rows(self, name: str) -> list[Json]:
        return [
            {p["name"]: next(v for m, v in p.items() if m != "name") for p in part["part"]}
            for part in self.parts
            if part["name"] == name
        ]

    @property
    def hidden(self) -> set[str]:
        return {row["resource"]["reference"] for row in self.rows("hidden")}

    def total(self, name: str) -> int:
        return sum(int(row[name]) for row in self.rows("type"))


@pytest.fixture(params=list(BACKENDS))
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    made = Ward(request.param, tmp_path)
    yield made
    made.close()


def agree(ward: Ward, query: str, name: str, *, flip: bool = False, **headers: str) -> bool:
    """Is the preview what the server shows?"""
    preview = ward.preview(query)
    seen, gone = ward.real(name, **headers)
    same = preview.hidden == gone and preview.total("seen") == len(seen)
    return same is not flip


@pytest.mark.parametrize("code", list(TEMPLATES))
def test_a_preview_is_what_the_server_shows(ward: Ward, code: str) -> None:
    """For each template: by its draft, and as recorded; for who treats and who does not."""
    draft = ward.decide(template=code, draft=True, **GIVEN[code])
    before = {n: ward.preview(f"actor=Practitioner/{n}", draft) for n in "def"}
    assert ward.server.get(f"Consent/{draft['id']}", headers=ward.patient).status_code == 404
    ward.template(code)
    for name in "def":
        assert agree(ward, f"actor=Practitioner/{name}", name)
        seen, gone = ward.real(name)
        mine = {key for key in gone if not key.startswith("Consent/")}
        assert {k for k in before[name].hidden if not k.startswith("Consent/")} == mine
        assert before[name].total("seen") == len(seen)
    for purpose in ("HRESCH", "HPAYMT"):
        query = f"actor=Practitioner/d&purpose={purpose}"
        assert agree(ward, query, "d", **{"x-purpose-of-use": purpose})


def test_the_comparison_can_fail(ward: Ward) -> None:
    assert agree(ward, "actor=Practitioner/f", "d", flip=True)
    assert not agree(ward, "actor=Practitioner/d", "d", flip=True)


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


def test_care_impact_is_said_before_it_is_restricted(ward: Ward) -> None:
    for code, template in TEMPLATES.items():
        answer = ward.ask(template=code, **GIVEN[code])
        if template.restricts:
            assert answer.status_code == 422, code
            assert template.texts["en"].warning in issue(answer)["diagnostics"]
        else:
            assert answer.status_code == 200, answer.text


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


def test_the_moment_counts(ward: Ward) -> None:
    ward.decide(template="family-doctor", actor="Practitioner/d", until="2998-12-31")
    for date, sees in (("2998-12-31", True), ("2999-01-01", False)):
        query = f"actor=Practitioner/d&treating=true&date={date}"
        assert ("Observation/h1" not in ward.preview(query).hidden) is sees
    ended = ward.preview("actor=Practitioner/d&date=2998-12-31")
    assert ended.one("relationship") is False and ended.total("seen") == 0


def test_actors_of_every_kind(ward: Ward) -> None:
    ward.template("sensitive-only-here")
    role = ward.preview("actor=PractitionerRole/er")
    assert role.hidden == ward.preview("actor=Practitioner/e").hidden
    group = ward.preview("actor=Organization/z")
    assert group.one("assumed") is True and group.one("role") == "consultant"
    assert group.hidden == role.hidden
    nobody = ward.preview("actor=Practitioner/f")
    assert nobody.total("seen") == 0 and nobody.one("relationship") is False
    assert {row["why"] for row in nobody.rows("decided")} == {"relationship"}
    supposed = ward.preview("actor=Practitioner/f&treating=true")
    assert supposed.hidden == ward.preview("actor=Practitioner/d").hidden
    more = ward.preview("actor=Practitioner/f&count=1")
    assert len(more.hidden) == 1 and more.one("more") is True
    assert ward.preview("actor=Practitioner/f").one("more") is False


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


@pytest.mark.parametrize(
    "query",
    [
        "",
        "actor=x",
        "actor=Practitioner/d&purpose=NOTHING",
        "actor=Patient/p1&purpose=BTG",
        "actor=Practitioner/d&count=1001",
        "actor=Practitioner/d&language=xx",
    ],
)
def test_a_preview_of_nothing_is_refused(ward: Ward, query: str) -> None:
    answer = ward.server.get(f"{PREVIEW}?{query}", headers=ward.patient)
    assert answer.status_code == 400, answer.text


def test_what_breaking_the_glass_would_show(ward: Ward) -> None:
    """What a request with that purpose is answered; no act is begun by looking."""
    ward.decide(template="hide-kind", label="HIV", understood=True)
    assert "Observation/h1" in ward.preview("actor=Practitioner/d").hidden
    broken = ward.preview("actor=Practitioner/d&purpose=BTG")
    assert "Observation/h1" not in broken.hidden and broken.one("purpose") == "BTG"
    stranger = ward.preview("actor=Practitioner/e&purpose=BTG")
    assert stranger.hidden == broken.hidden
    assert not ward.server.run(ward.server.domain.store.ledger.scan("break-glass"))


def test_not_even_in_an_emergency(ward: Ward) -> None:
    """What D breaks the glass for is shown, but for what was hidden also then; E is not named."""
    glass = {"x-purpose-of-use": "BTG", "x-break-glass-reason": "unconscious"}
    ward.template("hide-kind-always")
    names = {"d": [200, 404, 200, 404], "e": [200] * 4}
    for name, expected in names.items():
        headers = ward.readers[name] | glass
        keys = ("Patient/p1", "Observation/h1", "Observation/v2", "Condition/h2")
        found = [ward.server.get(key, headers=headers).status_code for key in keys]
        assert found == expected, name
    hidden = ward.preview("actor=Practitioner/d&purpose=BTG").hidden
    assert "Observation/h1" in hidden and "Observation/v2" not in hidden


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


def act(implicit: str) -> Act:
    return Act("p1", to("Patient/p1"), "clinic", "2026-01-01T00:00:00.000Z", implicit)


def choice(template: Template) -> Choice:
    actors = tuple({"reference": f"{type_}/x"} for type_ in template.actors[:1])
    data = ("Encounter/e", "DocumentReference/d")
    period = {"start": "2024-01-01"}
    return Choice(actors, ("HIV", "R"), data, period, "2027-01-01")


@pytest.mark.parametrize("implicit", ["basic-normal", "all-normal", "break-glass-only", "deny"])
@pytest.mark.parametrize("code", list(TEMPLATES))
def test_a_template_is_a_consent_of_ihe_pcf(code: str, implicit: str) -> None:
    """What the profiles require and forbid; in every language."""
    template = TEMPLATES[code]
    for words in LANGUAGES.values():
        made = consent(template, choice(template), act(implicit), words)
        CHECK({"id": "x", **made})
        for name in ("scope", "patient", "dateTime", "performer", "organization", "provision"):
            assert made[name], name
        source = made["sourceAttachment"]
        assert b64decode(source["hash"]) == sha1(b64decode(source["data"])).digest()
        assert made["policy"] == [{"uri": f"https://profiles.ihe.net/ITI/PCF/Policy-{implicit}"}]
        root = made["provision"]
        inner = root.get("provision", [])
        assert not any("provision" in rule for rule in inner)
        for rule in (root, *inner):
            assert not {"action", "class", "code"} & rule.keys()
        if implicit in ("basic-normal", "all-normal"):
            assert root["type"] in ("permit", "deny")


def test_a_template_without_a_warning_is_refused() -> None:
    rows = "".join(f'[x.{language}]\ntitle = "t"\ntext = "t"\n' for language in LANGUAGES)
    head = '[x]\nversion = 1\nscope = "research"\nroot = "rule"\ntakes = {}\nrule = []\n'
    assert parse(f"{head}restricts = false\n{rows}")["x"].name == "x|1"
    with pytest.raises(ValueError, match="care"):
        parse(f"{head}restricts = true\n{rows}")


def test_every_language_has_every_word() -> None:
    for words in LANGUAGES.values():
        for table in ("labels", "parts", "whys", "preview", "acts"):
            assert getattr(words, table).keys() == getattr(EN, table).keys()
