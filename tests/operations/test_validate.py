"""$validate, packages and profiles on write, through a whole server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.break_glass import message
from fhir_server.access.roles import Standing
from tests.definitions.test_packages import member, packed
from tests.serving import BACKENDS, Server, served
from tests.serving import BASE as FACE

Json = dict[str, Any]
PROFILE = "http://example.org/StructureDefinition/named-patient"
COLOURS = "http://example.org/ValueSet/colours"
BASE = "http://hl7.org/fhir/StructureDefinition/"
SEEN = {"system": "http://example.org/CodeSystem/colours"}


def profile(*elements: Json, url: str = PROFILE, type_: str = "Patient") -> Json:
    return {
        "resourceType": "StructureDefinition",
        "url": url,
        "name": "Named",
        "status": "active",
        "fhirVersion": "4.0.1",
        "kind": "resource",
        "abstract": False,
        "type": type_,
        "baseDefinition": BASE + type_,
        "derivation": "constraint",
        "differential": {"element": [{"id": type_, "path": type_}, *elements]},
    }


def element(path: str, **rules: Any) -> Json:
    return {"id": path, "path": path, **rules}


NAMED = profile(
    element("Patient.name", min=1),
    element("Patient.maritalStatus", binding={"strength": "required", "valueSet": COLOURS}),
)
SET = {
    "resourceType": "ValueSet",
    "url": COLOURS,
    "status": "active",
    "compose": {"include": [SEEN | {"concept": [{"code": "red"}]}]},
}


def package(*resources: Json, **manifest: Any) -> str:
    """Base64 of a package."""
    told = {"name": "org.example.test", "version": "1.0.0", "fhirVersions": ["4.0.1"]} | manifest
    files = (
        member(f"package/{i}.json", json.dumps(one).encode()) for i, one in enumerate(resources)
    )
    return base64.b64encode(packed(*files, manifest=told)).decode()


def install(server: Server, content: str, **options: Any) -> Any:
    binary = {"resourceType": "Binary", "contentType": "application/gzip", "data": content}
    parts: list[Json] = [{"name": "content", "resource": binary}]
    parts += [{"name": k, "valueBoolean": v} for k, v in options.items()]
    body = {"resourceType": "Parameters", "parameter": parts}
    return server.post("ImplementationGuide/$install", body)


def issues(answer: Any, severity: str = "error") -> list[tuple[str, str]]:
    """(code, expression) of those of a severity."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["issue"]
    return [
        (one["code"], one.get("expression", [""])[0])
        for one in found
        if one["severity"] == severity
    ]


@pytest.fixture(scope="module", params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Server]:
    with served(request.param, tmp_path_factory.mktemp("validate")) as found:
        assert install(found, package(NAMED, SET)).status_code == 200
        yield found


def claiming(**members: Any) -> Json:
    return {"resourceType": "Patient", "meta": {"profile": [PROFILE]}, **members}


def test_what_is_found_is_an_answer(server: Server) -> None:
    bad = claiming(gender="blue", maritalStatus={"coding": [SEEN | {"code": "green"}]})
    found = server.post("Patient/$validate", bad)
    assert issues(found) == [
        ("code-invalid", "Patient.gender"),
        ("required", "Patient.name"),
        ("code-invalid", "Patient.maritalStatus"),
    ]
    good = claiming(name=[{"text": "A"}], maritalStatus={"coding": [SEEN | {"code": "red"}]})
    answer = server.post("Patient/$validate", good)
    assert answer.json()["issue"][0]["severity"] == "information" and not issues(answer)


def test_the_guide_of_the_server_is_known_without_an_installation(server: Server) -> None:
    told = message("a", Standing("specialist"), 1_780_000_000_000_000)
    answer = server.post("Communication/$validate", told)
    assert [one["severity"] for one in answer.json()["issue"]] == ["information"]
    told["recipient"][0]["reference"] = "Patient/b"
    assert issues(server.post("Communication/$validate", told)) == [("invariant", "Communication")]
    expanded = server.get("ValueSet/$expand?url=urn:vehr:fhir:ValueSet:review")
    assert {"accept", "reject"} <= {one["code"] for one in expanded.json()["expansion"]["contains"]}
    mapped = server.get("ConceptMap/$translate?system=urn:vehr:fhir:CodeSystem:review&code=accept")
    assert mapped.status_code == 200


def test_structure_that_is_not_sound_is_told_too(server: Server) -> None:
    found = server.post("Patient/$validate", {"resourceType": "Patient", "nmae": [{}]})
    assert ("structure", "Patient.nmae") in issues(found)
    assert server.post("Patient/$validate", {"resourceType": "Nobody"}).status_code in (200, 400)
    other = server.post("Patient/$validate", {"resourceType": "Basic"})
    assert issues(other) == [("invalid", "Basic")]


@pytest.mark.parametrize("place", ["$validate", "Patient/$validate"])
def test_parameters_name_a_profile(server: Server, place: str) -> None:
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "resource", "resource": {"resourceType": "Patient"}},
            {"name": "mode", "valueCode": "profile"},
            {"name": "profile", "valueUri": PROFILE},
        ],
    }
    assert issues(server.post(place, body)) == [("required", "Patient.name")]
    body["parameter"][2]["valueUri"] = "http://example.org/none"  # type: ignore[index]
    assert issues(server.post(place, body)) == [("not-found", "Patient")]


def test_an_instance_by_get(server: Server) -> None:
    made = server.create({"resourceType": "Patient"})
    where = f"Patient/{made['id']}/$validate"
    assert issues(server.get(where)) == []
    assert issues(server.get(f"{where}?profile={PROFILE}")) == [("required", "Patient.name")]
    assert server.get(f"{where}?mode=profile").status_code == 400
    assert server.get(f"{where}?mode=magic").status_code == 400
    assert issues(server.get(f"{where}?mode=delete")) == []
    assert server.get("Patient/nobody/$validate").status_code == 404
    assert server.get("Patient/$validate").status_code == 400
    assert server.get("Patient/$validate?mode=delete").status_code == 400


def test_the_id_of_an_update(server: Server) -> None:
    made = server.create({"resourceType": "Patient"})
    where = f"Patient/{made['id']}/$validate?mode=update"
    assert issues(server.post(where, made)) == []
    other = {"resourceType": "Patient", "id": "other"}
    assert issues(server.post(where, other)) == [("invalid", "Patient.id")]
    assert issues(server.post("Patient/$validate?mode=update", {"resourceType": "Patient"})) == [
        ("required", "Patient.id")
    ]


def test_a_definition_that_changes_changes_the_answer(server: Server) -> None:
    url = "http://example.org/StructureDefinition/changing"
    stored = server.create(profile(element("Patient.gender", min=1), url=url))
    where, body = f"Patient/$validate?profile={url}", {"resourceType": "Patient"}
    assert issues(server.post(where, body)) == [("required", "Patient.gender")]
    stored["differential"] = {"element": [element("Patient.birthDate", min=1)]}
    server.put(f"StructureDefinition/{stored['id']}", stored)
    assert issues(server.post(where, body)) == [("required", "Patient.birthDate")]
    server.delete(f"StructureDefinition/{stored['id']}")
    assert issues(server.post(where, body)) == [("not-found", "Patient")]


def test_a_value_set_that_changes_changes_the_answer(server: Server) -> None:
    green = claiming(name=[{"text": "A"}], maritalStatus={"coding": [SEEN | {"code": "green"}]})
    assert issues(server.post("Patient/$validate", green))
    wider = SET | {"compose": {"include": [SEEN | {"concept": [{"code": "green"}]}]}}
    stored = server.create(wider)
    assert not issues(server.post("Patient/$validate", green))
    server.delete(f"ValueSet/{stored['id']}")
    assert issues(server.post("Patient/$validate", green))


def test_concept_maps_of_packages_translate(server: Server) -> None:
    row = {"code": "red", "target": [{"code": "rouge", "equivalence": "equivalent"}]}
    group = {"source": SEEN["system"], "target": "urn:fr", "element": [row]}
    found = {"resourceType": "ConceptMap", "url": "urn:map", "status": "active", "group": [group]}
    assert install(server, package(found, name="org.example.maps")).status_code == 200
    where = f"ConceptMap/$translate?system={SEEN['system']}&code=red&targetsystem=urn:fr"
    answer = server.get(where).json()["parameter"]
    assert next(one for one in answer if one["name"] == "result")["valueBoolean"] is True


def test_packages_are_listed_and_serve_terminology(server: Server) -> None:
    found = server.get("ImplementationGuide/$installed").json()["parameter"]
    assert "org.example.test#1.0.0" in [one["part"][0]["valueString"] for one in found]
    answer = server.get(f"ValueSet/$expand?url={COLOURS}").json()
    assert [one["code"] for one in answer["expansion"]["contains"]] == ["red"]


def test_dependencies_are_named_and_kept(server: Server) -> None:
    needs = {"dependencies": {"org.example.base": "1.0.x"}, "name": "org.example.more"}
    answer = install(server, package(**needs))
    assert answer.status_code == 400 and "org.example.base#1.0.x" in answer.text
    assert install(server, package(**needs), incomplete=True).status_code == 200
    assert install(server, package(name="org.example.base", version="1.0.7")).status_code == 200
    remove = "ImplementationGuide/$remove"
    base = {"name": "package", "valueString": "org.example.base#1.0.7"}
    body = {"resourceType": "Parameters", "parameter": [base]}
    assert server.post(remove, body).status_code == 409
    base["valueString"] = "org.example.more#1.0.0"
    assert server.post(remove, body).status_code == 200
    assert server.post(remove, body).status_code == 404
    base["valueString"] = "org.example.base#1.0.7"
    assert server.post(remove, body).status_code == 200


def test_the_same_again_and_another_of_the_name(server: Server) -> None:
    assert install(server, package(NAMED, SET)).status_code == 200
    assert install(server, package(NAMED)).status_code == 409
    assert install(server, base64.b64encode(b"no package").decode()).status_code == 400


def test_a_package_from_an_uploaded_binary(server: Server) -> None:
    content = base64.b64decode(package(name="org.example.uploaded"))
    kind = {"content-type": "application/gzip"}
    sent = server.send("POST", "Binary", content=content, headers=kind)
    assert sent.status_code == 201
    reference = "/".join(sent.headers["location"].split("/")[-4:-2])
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "binary", "valueString": reference}],
    }
    assert server.post("ImplementationGuide/$install", body).status_code == 200


def test_only_for_administrators_and_systems(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False) as server:
        server.user("pat", "patient", "Patient/1")
        server.headers = server.bearer("patient/*.cruds", user="pat", patient="1")
        assert server.get("ImplementationGuide/$installed").status_code == 403
        assert install(server, package()).status_code == 403
        server.headers = server.bearer("system/*.rs")
        assert install(server, package()).status_code == 403
        server.headers = server.bearer("system/*.cruds")
        assert install(server, package()).status_code == 200
        server.user("doctor", "family-doctor", "Practitioner/d")
        server.headers = server.bearer("user/*.cruds", user="doctor")
        assert install(server, package(name="org.example.two")).status_code == 403
        server.user("boss", "admin", "Practitioner/b")
        server.headers = server.bearer("user/*.cruds", user="boss")
        assert install(server, package(name="org.example.two")).status_code == 200


def test_references_lead_to_what_may_be_seen(tmp_path: Path) -> None:
    """A target that is hidden is as one that is not there."""
    url = "http://example.org/StructureDefinition/about-named"
    rule = {
        "key": "own-1",
        "severity": "error",
        "human": "the subject has a name",
        "expression": "subject.resolve().empty() or subject.resolve().name.exists()",
    }
    about = profile(element("Observation", constraint=[rule]), url=url, type_="Observation")
    about["differential"]["element"].pop(0)
    with served("memory", tmp_path, open_=False) as server:
        server.headers = server.bearer("system/*.cruds")
        server.create(about)
        seen, hidden = (server.create({"resourceType": "Patient"})["id"] for _ in "ab")
        server.headers = server.bearer("patient/*.rs", patient=seen)
        where = f"Observation/$validate?profile={url}"

        def judged(id_: str) -> list[tuple[str, str]]:
            body = {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": f"Patient/{id_}"},
            }
            return issues(server.post(where, body))

        assert judged(seen) == [("invariant", "Observation")]
        assert judged(hidden) == judged("nobody") == []


def policy(folder: Path, *rows: tuple[str, str]) -> Any:
    return served("memory", folder, profiles=rows)


def test_profiles_are_enforced_alone_as_in_a_bundle(tmp_path: Path) -> None:
    with policy(tmp_path, ("", "enforce")) as server:
        install(server, package(NAMED, SET))
        bad, good = claiming(), claiming(name=[{"text": "A"}])
        alone = server.post("Patient", bad)
        assert alone.status_code == 422
        told = server.post("Patient/$validate", bad).json()["issue"]
        assert alone.json()["issue"] == told
        assert server.post("Patient", good).status_code == 201
        for kind, status in (("transaction", 422), ("batch", 200)):
            entry = {"resource": bad, "request": {"method": "POST", "url": "Patient"}}
            body = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
            answer = server.post("", body)
            assert answer.status_code == status
            assert "name: is required" in answer.text
        assert server.post("Patient", {"resourceType": "Patient"}).status_code == 201


def test_profiles_that_only_warn_are_told(tmp_path: Path) -> None:
    with policy(tmp_path, ("", "enforce"), ("Patient", "warn")) as server:
        install(server, package(NAMED, SET))
        wanted = {"prefer": "return=OperationOutcome"}
        answer = server.post("Patient", claiming(), headers=wanted)
        assert answer.status_code == 201
        assert [one["severity"] for one in answer.json()["issue"]] == ["information", "warning"]


def test_a_profile_may_have_a_row_of_its_own(tmp_path: Path) -> None:
    with policy(tmp_path, ("", "enforce"), (PROFILE, "off")) as server:
        install(server, package(NAMED, SET))
        assert server.post("Patient", claiming()).status_code == 201


REFERRED = "http://example.org/StructureDefinition/referred"
REFERRING = profile(
    element(
        "Observation.subject",
        type=[{"code": "Reference", "targetProfile": [PROFILE]}],
    ),
    url=REFERRED,
    type_="Observation",
)


def observed(id_: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "meta": {"profile": [REFERRED]},
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{id_}"},
        **more,
    }


@pytest.mark.parametrize(("mode", "status"), [("off", 201), ("warn", 201), ("enforce", 422)])
def test_what_references_lead_to(mode: str, status: int, tmp_path: Path) -> None:
    """Only where the policy says so, the same alone and in a bundle, as $validate says."""
    with policy(tmp_path, ("", "enforce"), ("Reference", mode)) as server:
        install(server, package(NAMED, SET, REFERRING))
        good = server.create(claiming(name=[{"text": "A"}]))["id"]
        bad = server.create({"resourceType": "Patient"})["id"]
        wanted = {"prefer": "return=OperationOutcome"}
        assert server.post("Observation", observed(good)).status_code == 201
        assert server.post("Observation", observed("nobody")).status_code == 201
        answer = server.post("Observation", observed(bad), headers=wanted)
        assert answer.status_code == status
        told = [one["severity"] for one in answer.json()["issue"]]
        assert ("warning" in told) == (mode == "warn")
        said = server.post("Observation/$validate", observed(bad)).json()["issue"]
        assert said[0]["severity"] == ("error" if mode == "enforce" else "warning")
        absolute = observed("x", subject={"reference": f"{FACE}/Patient/{bad}"})
        assert server.post("Observation", absolute).status_code == status
        first = "urn:uuid:7f1b7a3e-6a3b-4d3f-9b57-0a6c4f1f5f10"
        entries = [
            {"fullUrl": first, "resource": {"resourceType": "Patient"}},
            {"resource": observed("x", subject={"reference": first})},
        ]
        for entry in entries:
            url = entry["resource"]["resourceType"]  # type: ignore[index]
            entry["request"] = {"method": "POST", "url": url}
        body = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert server.post("", body).status_code == (200 if status == 201 else 422)


def test_a_hidden_target_is_as_one_that_is_not_there(tmp_path: Path) -> None:
    """What it conforms to is not told to an author who may not see it."""
    rows = ("", "enforce"), ("Reference", "enforce")
    with served("memory", tmp_path, open_=False, profiles=rows) as server:
        server.headers = server.bearer("system/*.cruds")
        install(server, package(NAMED, SET, REFERRING))
        good = server.create(claiming(name=[{"text": "A"}]))["id"]
        bad = server.create({"resourceType": "Patient"})["id"]
        server.headers = server.bearer("system/Observation.crud")
        told = []
        for id_ in (good, bad, "nobody"):
            answer = server.post("Observation", observed(id_))
            told.append((answer.status_code, answer.text if answer.status_code != 201 else ""))
        assert told == [(201, "")] * 3
