"""Versions come, answer, step back and go while the server serves, and it is told who decided."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import odd_graphs as graphs
import packages
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fhir_server.model.problem import NotFound, Unavailable, Unprocessable
from operations.models import shelf
from operations.models.administration import By
from operations.models.assembly import models_of
from operations.models.intake.signing import sign
from operations.models.package import digests
from tests.serving import Json, Server, backends, served

pytestmark = pytest.mark.slow
ZIP = {"content-type": "application/zip"}
RIGHT = "system/*.cruds __models"
PRESSURE: Json = packages.pressure("p", 120)


@pytest.fixture(scope="module", params=backends("sqlite"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(backend, tmp_path_factory.mktemp("registry"), open_=False) as made:
        made.headers = made.bearer(RIGHT)
        patient = {"resourceType": "Patient", "id": "p", "birthDate": "1970-01-01"}
        assert made.put("Patient/p", patient).status_code == 201
        assert made.post("Observation", PRESSURE).status_code == 201
        yield made


def push(server: Server, archive: bytes, query: str = "", **options: Any) -> Any:
    return server.send("POST", f"/models{query}", content=archive, headers=ZIP, **options)


def act(server: Server, name: str, verb: str, **query: str) -> Any:
    return server.send("POST", f"/models/{name}/{verb}", params=query)


def answered(server: Server, model: str) -> str:
    """The version that answers, "" for none."""
    found = server.get("Patient/p/$predict", params={"model": model})
    if found.status_code != 200:
        return ""
    entries = [entry["resource"] for entry in found.json()["entry"]]
    return next(r["version"][0]["value"] for r in entries if r["resourceType"] == "Device")


def value(parameters: Json, name: str) -> Any:
    part = next((p for p in parameters["parameter"] if p["name"] == name), {})
    return next((v for k, v in part.items() if k.startswith("value")), None)


def test_the_life_of_versions_while_serving(server: Server) -> None:
    first, second = (packages.parts("life", v) for v in ("1.0.0", "1.1.0"))
    pushed = push(server, packages.zipped(first), "?reason=first")
    assert pushed.status_code == 200, pushed.text
    assert (value(pushed.json(), "version"), value(pushed.json(), "champion")) == ("1.0.0", None)
    assert answered(server, "life") == ""
    assert answered(server, "life|1.0.0") == "1.0.0"
    assert act(server, "life", "activate", version="1.0.0", reason="tried").status_code == 200
    assert answered(server, "life") == "1.0.0"

    assert push(server, packages.tarred(second)).status_code == 200
    assert answered(server, "life") == "1.0.0"
    assert act(server, "life", "activate", version="1.1.0", reason="better").status_code == 200
    assert answered(server, "life") == "1.1.0"
    back = act(server, "life", "rollback", reason="not better")
    assert value(back.json(), "champion") == "1.0.0"
    assert answered(server, "life") == "1.0.0"
    assert act(server, "life", "rollback", reason="again").status_code == 409

    assert server.get("/v2/models/life").json()["versions"] == ["1.0.0", "1.1.0"]
    assert act(server, "life", "retire", version="1.1.0", reason="old").status_code == 200
    assert server.get("/v2/models/life").json()["versions"] == ["1.0.0"]
    gone = server.get("Patient/p/$predict", params={"model": "life|1.1.0"})
    assert (gone.status_code, "retired" in gone.text) == (404, True)
    assert act(server, "life", "activate", version="1.1.0", reason="x").status_code == 404
    again = push(server, packages.zipped(second))
    assert (again.status_code, "was retired" in again.text) == (409, True)
    assert server.get("Device/life-1.1.0").json()["status"] == "inactive"

    assert act(server, "life", "retire", version="1.0.0", reason="all").status_code == 200
    assert answered(server, "life") == ""


def test_a_shipped_model_is_replaced_and_comes_back(server: Server) -> None:
    newer = packages.zipped(packages.parts("qsofa", "9.0.0"))
    assert push(server, newer).status_code == 200
    assert act(server, "qsofa", "activate", version="9.0.0", reason="try").status_code == 200
    assert answered(server, "qsofa") == "9.0.0"
    assert act(server, "qsofa", "rollback", reason="no").status_code == 200
    listed = server.send("GET", "/models/qsofa").json()["parameter"][0]["part"]
    versions = [p["part"] for p in listed if p["name"] == "version"]
    assert [[p["valueString"] for p in v if p["name"] == "version"] for v in versions] == [
        ["1.0.0"],
        ["9.0.0"],
    ]
    states = [next(p["valueCode"] for p in v if p["name"] == "status") for v in versions]
    assert states == ["champion", "candidate"]


def test_the_record_tells_what_it_is_and_who_decided_why(server: Server) -> None:
    server.user("chief", "admin", fhir_user="Practitioner/chief")
    server.put("Practitioner/chief", {"resourceType": "Practitioner", "id": "chief"})
    admin = server.bearer("user/*.cruds", user="chief")
    archive = packages.zipped(packages.parts("told"))
    assert push(server, archive, "?reason=why%20not").status_code == 200
    turned = server.send(
        "POST",
        "/models/told/activate",
        params={"version": "1.0.0", "reason": "passed its review"},
        headers=admin,
    )
    assert turned.status_code == 200, turned.text
    device = server.get("Device/told-1.0.0").json()
    assert device["modelNumber"] == "told"
    card = server.get("DocumentReference?subject=Device/told-1.0.0").json()["entry"][0]["resource"]
    text = base64.b64decode(card["content"][0]["attachment"]["data"]).decode()
    assert "## Limits\n- It says nothing." in text
    kept = server.get("Binary/told-1.0.0.package", headers={"accept": "application/zip"})
    assert kept.content == archive
    found = server.get("Provenance?target=Device/told-1.0.0&_sort=recorded").json()["entry"]
    told = [(p["activity"]["text"], p["reason"][0]["text"]) for e in found for p in [e["resource"]]]
    assert told == [
        ("model push", "why not"),
        ("model activate as champion", "passed its review"),
    ]
    who = found[1]["resource"]["agent"][0]["who"]
    assert who == {"reference": "Practitioner/chief", "display": "chief"}
    events = server.get("AuditEvent?_count=50").json()["entry"]
    acts = [e["resource"] for e in events if "model-activate" in str(e["resource"])]
    assert acts
    assert any(a.get("altId") == "chief" or "chief" in str(a) for e in acts for a in e["agent"])


def test_who_sees_a_result_reads_the_card_of_the_version_that_made_it(server: Server) -> None:
    for version in ("1.0.0", "1.1.0"):
        assert push(server, packages.zipped(packages.parts("carded", version))).status_code == 200
        assert act(server, "carded", "activate", version=version, reason="x").status_code == 200
    assert act(server, "carded", "retire", version="1.0.0", reason="old").status_code == 200
    server.user("reader", "family-doctor", fhir_user="Practitioner/reader")
    doctor = server.bearer("user/*.rs", user="reader")
    for model, version in (("carded", "1.0.0"), ("carded", "1.1.0"), ("SCORE2-OP", "1.0.0")):
        url = f"/models/{model}/versions/{version}/card"
        card = server.send("GET", url, headers=doctor)
        assert card.status_code == 200, card.text
        text = base64.b64decode(card.json()["content"][0]["attachment"]["data"]).decode()
        assert f" {version}\n\n## Intended use\n" in text
        assert server.send("GET", url, headers={"authorization": ""}).status_code == 401
    for unknown in ("carded/versions/9.9.9", "x/versions/1.0.0", "carded/versions/..%2F%26"):
        missing = server.send("GET", f"/models/{unknown}/card", headers=doctor)
        assert (missing.status_code, missing.json()["resourceType"]) == (404, "OperationOutcome")


def test_versions_are_immutable(server: Server) -> None:
    archive = packages.zipped(packages.parts("fixed"))
    assert [push(server, archive).status_code for _ in range(2)] == [200, 200]
    found = server.get("Provenance?target=Device/fixed-1.0.0").json()
    assert found["total"] == 1
    other = push(server, packages.zipped(packages.parts("fixed", README_md=b"other")))
    assert (other.status_code, "immutable" in other.text) == (409, True)


@pytest.mark.parametrize(
    ("archive", "reason", "status"),
    [
        (packages.zipped(packages.parts("bad", graph=graphs.outside())), "another file", 422),
        (packages.zipped(packages.parts("bad", graph=graphs.scaled(0.5))), "golden vector 1", 422),
        (
            packages.zipped(packages.parts("bad", graph=graphs.mixing(), two=True)),
            "mixes the rows",
            422,
        ),
        (packages.zipped(packages.parts("b" * 40, "1.0.100000000000")), "longer than an id", 422),
        (packages.zipped({"model.onnx": bytes(16 << 20)}), "times its size", 413),
    ],
)
def test_what_is_refused_leaves_nothing(
    server: Server, archive: bytes, reason: str, status: int
) -> None:
    before = server.run(server.domain.store.position())
    refused = push(server, archive)
    assert refused.status_code == status, refused.text
    assert reason in refused.json()["issue"][0]["diagnostics"]
    assert server.run(server.domain.store.position()) == before


def test_only_who_may_decides(server: Server) -> None:
    server.user("doc", "family-doctor", fhir_user="Practitioner/doc")
    server.put("Practitioner/doc", {"resourceType": "Practitioner", "id": "doc"})
    body = packages.zipped(packages.parts("mine"))
    for headers, status in (
        ({"authorization": ""}, 401),
        (server.bearer("system/*.cruds"), 403),
        (server.bearer("system/Device.r __models"), 403),
        (server.bearer("user/*.cruds __models", user="doc"), 403),
        (server.bearer("user/Patient.r", user="chief-of-none"), 401),
    ):
        sent = server.send("POST", "/models", content=body, headers=ZIP | headers)
        assert sent.status_code == status, sent.text
        turned = server.send(
            "POST", "/models/score2/retire?version=1.0.0&reason=x", headers=headers
        )
        assert turned.status_code == status
    assert answered(server, "mine|1.0.0") == ""


def test_a_version_that_cannot_be_loaded_any_more_can_be_retired(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update of the server with stricter rules."""
    assert push(server, packages.zipped(packages.parts("stale"))).status_code == 200
    assert act(server, "stale", "activate", version="1.0.0", reason="x").status_code == 200
    domain = server.domain

    async def stricter(_: bytes) -> dict[str, bytes]:
        raise Unprocessable("the model package is refused")

    async def elsewhere() -> None:
        monkeypatch.setattr(shelf, "receive", stricter)
        models = models_of(domain.settings, domain.engine, domain.indexes)
        try:
            with pytest.raises(Unavailable, match="is refused"):
                await models.registry.champion("stale")
            principal = models.own.principal
            by = By(principal, models.own, "it cannot be used any more")
            await models.administration.retire("stale", "1.0.0", by)
            for gone in (
                models.registry.champion("stale"),
                models.administration.retire("stale", "1.0.0", by),
            ):
                with pytest.raises(NotFound):
                    await gone
        finally:
            await models.close()

    server.run(elsewhere())
    assert server.get("Device/stale-1.0.0").json()["status"] == "inactive"
    assert answered(server, "stale") == ""
    decided = server.get("Provenance?target=Device/stale-1.0.0&_sort=-recorded").json()["entry"]
    assert decided[0]["resource"]["activity"]["text"] == "model retire"


def test_bad_calls_are_refused(server: Server) -> None:
    for (method, url), status in {
        ("POST", "/models/score2/activate?version=1.0.0"): 400,
        ("POST", "/models/score2/activate?version=1.0.0&reason=%20"): 400,
        ("POST", "/models/score2/activate?version=1.0.0&reason=x&alias=king"): 400,
        ("POST", "/models/score2/activate?version=1.0.0&reason=x"): 409,
        ("POST", "/models/score2/activate?version=7.0.0&reason=x"): 404,
        ("POST", "/models/none/activate?version=7.0.0&reason=x"): 404,
        ("POST", "/models/none/rollback?reason=x"): 404,
        ("POST", "/models/score2/retire?version=7.0.0&reason=x"): 404,
        ("GET", "/models/score2/activate?version=1.0.0&reason=x"): 405,
        ("DELETE", "/models"): 405,
        ("GET", "/models/a/b/c"): 404,
        ("POST", "/models"): 400,
        ("POST", "/models?binary=Binary/none"): 404,
        ("POST", "/models?binary=Patient/p"): 400,
    }.items():
        assert server.send(method, url).status_code == status, url


def test_a_large_archive_comes_as_a_binary(server: Server) -> None:
    archive = packages.zipped(packages.parts("large"))
    sent = server.send("POST", "Binary", content=archive, headers=ZIP)
    assert sent.status_code == 201
    place = f"Binary/{sent.headers['location'].split('/Binary/')[1].split('/')[0]}"
    assert server.post(f"$model-push?binary={place}").status_code == 200


def test_only_signed_packages_where_keys_are_set(backend: str, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "keys.pem").write_bytes(public)
    files = packages.parts("signed")
    signature = sign(digests(files), private)
    with served(backend, tmp_path, model_keys=tmp_path / "keys.pem") as server:
        unsigned = push(server, packages.zipped(files))
        assert (unsigned.status_code, "not signed" in unsigned.text) == (422, True)
        beside = server.send(
            "POST",
            "/models",
            content=packages.zipped(files),
            headers=ZIP,
            params={"signature": signature},
        )
        assert beside.status_code == 200, beside.text
        inside = packages.parts("inside")
        inside["signature.txt"] = sign(digests(inside), private).encode()
        assert push(server, packages.zipped(inside)).status_code == 200
        listed = server.send("GET", "/models/inside").json()["parameter"][0]["part"]
        [version] = [p["part"] for p in listed if p["name"] == "version"]
        assert len(next(p["valueString"] for p in version if p["name"] == "signer")) == 16


def test_the_limits_of_workers_are_settings(server: Server) -> None:
    given = {"model_seconds": 7, "model_memory": 700, "model_workers": 3}
    settings = replace(server.domain.settings, model_providers=("A", "B"), **given)
    runtime = models_of(settings, server.domain.engine, server.domain.indexes).registry.runtime
    assert (runtime.limits.seconds, runtime.limits.memory, runtime.workers) == (7, 700, 3)
    assert runtime.limits.providers == ("A", "B")


def test_every_shipped_model_passes_its_golden_vectors(server: Server) -> None:
    async def verified() -> dict[str, str]:
        domain = server.domain
        models = models_of(domain.settings, domain.engine, domain.indexes)
        try:
            await models.registry.verify()
            return models.registry.refused
        finally:
            await models.close()

    assert server.run(verified()) == {}


def test_another_process_follows_and_tries_again_what_cannot_be_read_now(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert push(server, packages.zipped(packages.parts("shared"))).status_code == 200
    domain = server.domain
    sound = shelf.receive

    async def busy(_: bytes) -> dict[str, bytes]:
        raise Unavailable("there is no process")

    async def elsewhere() -> None:
        models = models_of(domain.settings, domain.engine, domain.indexes)
        registry = models.registry
        try:
            monkeypatch.setattr(shelf, "receive", busy)
            await registry.refresh()
            with pytest.raises(Unavailable, match="there is no process"):
                await registry.champion("shared|1.0.0")
            assert await registry.champion("qsofa")
            monkeypatch.setattr(shelf, "receive", sound)
            registry._again = 0.0
            package = await registry.champion("shared|1.0.0")
            assert package.files == digests(packages.parts("shared"))
        finally:
            await models.close()

    server.run(elsewhere())


def test_administrators_see_proposals_and_models_but_no_other_task(server: Server) -> None:
    server.user("chief2", "admin", fhir_user="Practitioner/chief")
    server.put("Practitioner/chief", {"resourceType": "Practitioner", "id": "chief"})
    for code in ("model-retraining", "other"):
        coding = {"system": "urn:vehr:task", "code": code}
        task = {"status": "requested", "intent": "proposal", "code": {"coding": [coding]}}
        server.create({"resourceType": "Task"} | task)
    worn = {"resourceType": "Device", "patient": {"reference": "Patient/p"}}
    server.create(worn)
    device = server.create({"resourceType": "Device", "modelNumber": "model"})
    admin = server.bearer("user/*.cruds", user="chief2")
    found = server.get("Task", headers=admin).json()["entry"]
    assert [e["resource"]["code"]["coding"][0]["code"] for e in found] == ["model-retraining"]
    shown = server.get("Device?_count=100", headers=admin).json()["entry"]
    assert device["id"] in {e["resource"]["id"] for e in shown}
    assert not any("patient" in e["resource"] for e in shown)
    assert server.put(f"Device/{device['id']}", device, headers=admin).status_code == 403
