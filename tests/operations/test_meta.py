"""$meta, $meta-add, $meta-delete: https://hl7.org/fhir/R4/resource-operations.html"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operations.meta import cut, joined
from tests.serving import BACKENDS, FHIR_JSON, Server, issue, served

V3 = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
LOST = {"system": "http://example.org/codes/tags", "code": "record-lost", "display": "Lost"}
CURRENT = {"system": "http://example.org/codes/tags", "code": "current"}
RESTRICTED = {"system": V3, "code": "R"}
PROFILE = "http://hl7.org/fhir/StructureDefinition/vitalsigns"


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


@pytest.fixture(params=BACKENDS)
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path, open_=False) as server:
        yield server


def parameters(**meta: Any) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


def returned(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    [parameter] = answer.json()["parameter"]
    assert parameter["name"] == "return"
    meta: dict[str, Any] = parameter["valueMeta"]
    return meta


def labels(meta: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in meta.items() if k not in ("versionId", "lastUpdated")}


def patient(server: Server, **options: Any) -> str:
    body = {"resourceType": "Patient", "meta": {"tag": [CURRENT]}}
    id_: str = server.create(body, **options)["id"]
    return id_


def test_the_meta_of_an_instance_and_of_a_version(server: Server) -> None:
    id_ = patient(server)
    server.post(f"Patient/{id_}/$meta-add", parameters(tag=[LOST]))
    for answer in (server.get(f"Patient/{id_}/$meta"), server.post(f"Patient/{id_}/$meta")):
        assert labels(returned(answer)) == {"tag": [CURRENT, LOST]}
    assert returned(server.get(f"Patient/{id_}/$meta"))["versionId"] == "2"
    assert labels(returned(server.get(f"Patient/{id_}/_history/1/$meta"))) == {"tag": [CURRENT]}
    assert server.get(f"Patient/{id_}/_history/3/$meta").status_code == 404
    assert server.get(f"Patient/{id_}/_history/0/$meta").status_code == 404
    assert server.get(f"Patient/{id_}/_history/1/meta").status_code == 404
    assert server.get("Patient/none/$meta").status_code == 404


def test_adding_is_a_new_version_and_found_by_search(server: Server) -> None:
    id_ = patient(server)
    given = parameters(tag=[LOST], security=[RESTRICTED], profile=[PROFILE])
    meta = returned(server.post(f"Patient/{id_}/$meta-add", given))
    assert labels(meta) == {"tag": [CURRENT, LOST], "security": [RESTRICTED], "profile": [PROFILE]}
    assert meta["versionId"] == "2"
    assert server.get(f"Patient/{id_}").json()["meta"] == meta
    for query in ("_tag=record-lost", f"_security={V3}|R", f"_profile={PROFILE}"):
        assert server.get(f"Patient?{query}&_summary=count").json()["total"] == 1


def test_sets_do_not_repeat_and_nothing_changes_for_nothing(server: Server) -> None:
    """Version and display are ignored when tags are matched."""
    id_ = patient(server)
    again = {**CURRENT, "display": "Now", "version": "2"}
    meta = returned(server.post(f"Patient/{id_}/$meta-add", parameters(tag=[again])))
    assert labels(meta) == {"tag": [CURRENT]} and meta["versionId"] == "1"
    twice = parameters(tag=[LOST, LOST])
    meta = returned(server.post(f"Patient/{id_}/$meta-add", twice))
    assert labels(meta) == {"tag": [CURRENT, LOST]}


def test_deleting(server: Server) -> None:
    id_ = patient(server)
    server.post(f"Patient/{id_}/$meta-add", parameters(tag=[LOST], profile=[PROFILE]))
    bare = {"system": LOST["system"], "code": LOST["code"]}
    meta = returned(server.post(f"Patient/{id_}/$meta-delete", parameters(tag=[bare])))
    assert labels(meta) == {"tag": [CURRENT], "profile": [PROFILE]}
    meta = returned(server.post(f"Patient/{id_}/$meta-delete", parameters(tag=[bare])))
    assert meta["versionId"] == "3"
    other = {"code": "current"}
    meta = returned(server.post(f"Patient/{id_}/$meta-delete", parameters(tag=[other])))
    assert labels(meta)["tag"] == [CURRENT]
    last = parameters(tag=[CURRENT], profile=[PROFILE])
    assert labels(returned(server.post(f"Patient/{id_}/$meta-delete", last))) == {}


def test_what_a_type_and_the_system_use(server: Server) -> None:
    patient(server)
    patient(server)
    server.create({"resourceType": "Basic", "code": {"text": "x"}, "meta": {"tag": [LOST]}})
    server.create({"resourceType": "Basic", "code": {"text": "x"}, "meta": {"tag": [CURRENT]}})
    assert returned(server.get("Patient/$meta")) == {"tag": [CURRENT]}
    assert returned(server.get("Observation/$meta")) == {}
    codes = {tag["code"] for tag in returned(server.get("$meta"))["tag"]}
    assert codes == {"current", "record-lost"}
    assert returned(server.post("$meta")).keys() == {"tag"}


def test_the_content_of_a_binary_stays(server: Server) -> None:
    headers = {"content-type": "application/pdf"}
    made = server.send("POST", "Binary", content=bytes(100_000), headers=headers)
    place = made.headers["location"].split("/_history")[0]
    assert labels(returned(server.post(f"{place}/$meta-add", parameters(tag=[LOST]))))
    assert server.get(place).content == bytes(100_000)
    assert server.get(place, headers={"accept": FHIR_JSON}).json()["meta"]["tag"] == [LOST]
    assert returned(server.get("Binary/$meta")) == {"tag": [LOST]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (None, 400),
        ({"resourceType": "Parameters", "parameter": []}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "x", "valueMeta": {}}]}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueCode": "x"}]}, 422),
        (parameters(nonsense=True), 422),
        (parameters(tag=[{"code": 7}]), 422),
        (parameters(tag={"code": "x"}), 422),
        ({"resourceType": "Patient"}, 400),
    ],
)
def test_what_is_refused(server: Server, body: dict[str, Any] | None, status: int) -> None:
    id_ = patient(server)
    for name in ("$meta-add", "$meta-delete"):
        answer = server.post(f"Patient/{id_}/{name}", body)
        assert answer.status_code == status, answer.text
        assert issue(answer)
    assert server.get(f"Patient/{id_}").headers["etag"] == 'W/"1"'


def test_changes_only_by_post_and_only_of_instances(server: Server) -> None:
    id_ = patient(server)
    assert server.get(f"Patient/{id_}/$meta-add").status_code == 405
    assert server.post("Patient/$meta-add", parameters(tag=[LOST])).status_code == 400
    assert server.post("Patient/none/$meta-add", parameters(tag=[LOST])).status_code == 404


def test_only_the_hospital_takes_security_labels_away(secured: Server) -> None:
    system = secured.bearer("system/*.cruds")
    for id_ in ("p1", "p2"):
        body = {"resourceType": "Patient", "id": id_, "meta": {"tag": [CURRENT]}}
        secured.put(f"Patient/{id_}", body, headers=system)
    own = secured.bearer("patient/*.cruds", patient="p1")
    place, label = "Patient/p1", parameters(security=[RESTRICTED])
    raised = secured.post(f"{place}/$meta-add", label, headers=own)
    assert labels(returned(raised))["security"] == [RESTRICTED]
    assert secured.post(f"{place}/$meta-delete", label, headers=own).status_code == 403
    tags = parameters(tag=[CURRENT])
    assert "tag" not in returned(secured.post(f"{place}/$meta-delete", tags, headers=own))
    lowered = secured.post(f"{place}/$meta-delete", label, headers=system)
    assert "security" not in returned(lowered)


def test_hidden_is_absent(secured: Server) -> None:
    system = secured.bearer("system/*.cruds")
    for id_, tag in (("p1", CURRENT), ("p2", LOST)):
        body = {"resourceType": "Patient", "id": id_, "meta": {"tag": [tag]}}
        secured.put(f"Patient/{id_}", body, headers=system)
    own = secured.bearer("patient/*.cruds", patient="p1")
    assert returned(secured.get("Patient/$meta", headers=own)) == {"tag": [CURRENT]}
    assert returned(secured.get("$meta", headers=own)) == {"tag": [CURRENT]}
    tags = parameters(tag=[LOST])
    for url in ("$meta", "_history/1/$meta"):
        hidden = secured.get(f"Patient/p2/{url}", headers=own)
        absent = secured.get(f"Patient/p3/{url}", headers=own)
        assert hidden.status_code == 404
        assert hidden.text.replace("p2", "p3") == absent.text
    for name in ("$meta-add", "$meta-delete"):
        assert secured.post(f"Patient/p2/{name}", tags, headers=own).status_code == 404
    reader = secured.bearer("patient/*.rs", patient="p1")
    assert secured.post("Patient/p1/$meta-add", tags, headers=reader).status_code == 403
    nobody = secured.bearer("patient/Patient.r", patient="p1")
    assert secured.get("Patient/$meta", headers=nobody).status_code == 403
    assert secured.get("$meta", headers=nobody).status_code == 403
    assert secured.get("$meta").status_code == 401


def test_joined_and_cut_are_inverse_on_what_is_new() -> None:
    meta = {"versionId": "1", "tag": [CURRENT]}
    given = {"tag": [LOST], "security": [RESTRICTED], "profile": [PROFILE]}
    assert cut(joined(meta, given), given) == meta
    assert joined(joined(meta, given), given) == joined(meta, given)
