"""CodeSystem/$import-codes: a release that was sent as a Binary answers like a stored resource."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from fhir_server.access.concepts import CONCEPTS, MEDIA
from terminology.filing import write_file
from tests.operations.codes.asking import SCT, get
from tests.operations.codes.test_importers import CORE, SNOMED, TABLE, archive
from tests.serving import BACKENDS, Server, issue, served

WARDS = "urn:example:wards"
Json = dict[str, Any]


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


def upload(server: Server, content: bytes, media: str = "application/octet-stream") -> str:
    headers = {"Content-Type": media}
    answer = server.send("POST", "Binary", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"Binary/{answer.headers['location'].split('/Binary/')[1].split('/')[0]}"


def order(reference: str, format_: str = "csv", **more: str) -> Json:
    further = [
        {"name": name, "valueUri" if name == "url" else "valueString": v}
        for name, v in more.items()
    ]
    rows: list[Json] = [
        {"name": "format", "valueCode": format_},
        {"name": "content", "valueReference": {"reference": reference}},
        {"name": "name", "valueString": "wards.csv"},
        *further,
    ]
    return {"resourceType": "Parameters", "parameter": rows}


def finished(server: Server, started: httpx.Response, status: int = 200) -> httpx.Response:
    """The result of a job."""
    assert started.status_code == 202, started.text
    for _ in range(2000):
        answer = server.get(started.headers["content-location"])
        if answer.status_code not in (202, 429):
            assert answer.status_code == status, answer.text
            return answer
        server.run(asyncio.sleep(0.03))
    raise AssertionError("the import does not end")


def imported(server: Server, table: str = TABLE, version: str = "3") -> Json:
    given = order(upload(server, table.encode()), url=WARDS, version=version)
    found: Json = finished(server, server.post("CodeSystem/$import-codes", given)).json()
    return found


def test_an_imported_code_system_answers(server: Server) -> None:
    done = imported(server)
    parts = {part["name"]: part for part in done["parameter"]}
    assert parts["concepts"]["valueInteger"] == 3
    stored = server.get(parts["codeSystem"]["valueReference"]["reference"]).json()
    assert (stored["content"], stored["count"]) == ("not-present", 3) and "concept" not in stored
    shown = get(server, "CodeSystem/$lookup", system=WARDS, code="icu", displayLanguage="uk")
    assert "Реанімація" in str(shown)
    said = get(server, "CodeSystem/$validate-code", url=WARDS, code="icu", display="Ward")
    assert said["parameter"][0]["valueBoolean"] is False
    below = get(server, "CodeSystem/$subsumes", system=WARDS, codeA="w", codeB="icu")
    assert below["parameter"][0]["valueCode"] == "subsumes"


def test_value_sets_and_searches_use_it(server: Server) -> None:
    imported(server)
    wards: Json = {
        "resourceType": "ValueSet",
        "id": "wards",
        "url": "urn:example:set",
        "status": "active",
        "compose": {"include": [{"system": WARDS, "filter": [
            {"property": "concept", "op": "descendent-of", "value": "w"}
        ]}]},
    }  # fmt: skip
    assert server.put("ValueSet/wards", wards).status_code == 201
    found = get(server, "ValueSet/$expand", url="urn:example:set")["expansion"]
    assert [one["code"] for one in found["contains"]] == ["icu", "old"]
    for filter_, codes in (("реан", ["icu"]), ("ward", ["old"])):
        found = get(server, "ValueSet/$expand", url="urn:example:set", filter=filter_)
        assert [one["code"] for one in found["expansion"]["contains"]] == codes
    for code in ("icu", "w"):
        coded = {"coding": [{"system": WARDS, "code": code}]}
        unit = {"resourceType": "Basic", "id": code, "code": coded}
        assert server.put(f"Basic/{code}", unit).status_code == 201
    for query, ids in (
        ("code:in=urn:example:set", ["icu"]),
        (f"code:below={WARDS}|w", ["icu", "w"]),
        (f"code:above={WARDS}|icu", ["icu", "w"]),
    ):
        entries = server.get(f"Basic?{query}&_sort=_id").json().get("entry", [])
        assert [one["resource"]["id"] for one in entries] == ids, query


def test_a_later_import_of_a_version_replaces_it(server: Server) -> None:
    imported(server)
    first = imported(server, "code,display\nx,Other\n")
    reference = first["parameter"][0]["valueReference"]["reference"]
    assert server.get(reference).json()["meta"]["versionId"] == "2"
    get(server, "CodeSystem/$lookup", system=WARDS, code="x")
    get(server, "CodeSystem/$lookup", 404, system=WARDS, code="icu")
    imported(server, version="4")
    get(server, "CodeSystem/$lookup", system=WARDS, code="icu", version="4")
    get(server, "CodeSystem/$lookup", 404, system=WARDS, code="icu", version="3")


def test_what_cannot_be_imported(server: Server) -> None:
    reference = upload(server, b"display\nA\n")
    assert server.post("CodeSystem/$import-codes", order(reference, "xls")).status_code == 400
    assert server.post("CodeSystem/$import-codes", order("Binary/none")).status_code == 404
    assert server.post("CodeSystem/$import-codes", order("Patient/p")).status_code == 400
    answer = server.post("CodeSystem/$import-codes", order(reference, url=WARDS))
    told = finished(server, answer, 422)
    assert "column code" in issue(told)["diagnostics"]
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../wards.csv", TABLE)
    reference = upload(server, packed.getvalue())
    finished(server, server.post("CodeSystem/$import-codes", order(reference, url=WARDS)))
    assert not (Path.cwd().parent / "wards.csv").exists()


def test_only_what_an_import_made_is_opened(server: Server, tmp_path: Path) -> None:
    """Anybody may write the extension, and a Binary whose content looks like concepts."""
    path = tmp_path / "concepts"
    write_file(path, {"resourceType": "CodeSystem", "url": "urn:example:x"}, [{"code": "a"}])
    content = zstandard.compress(path.read_bytes() + bytes(100_000))
    reference = upload(server, content, MEDIA)
    system: Json = {
        "resourceType": "CodeSystem",
        "id": "x",
        "url": "urn:example:x",
        "status": "active",
        "content": "not-present",
        "extension": [{"url": CONCEPTS, "valueReference": {"reference": reference}}],
    }
    assert server.put("CodeSystem/x", system).status_code == 201
    get(server, "CodeSystem/$lookup", 404, system="urn:example:x", code="a")


def test_value_sets_of_snomed_ct_need_no_resource(server: Server, tmp_path: Path) -> None:
    release = archive(tmp_path, SNOMED, "rel.zip").read_bytes()
    finished(
        server, server.post("CodeSystem/$import-codes", order(upload(server, release), "snomed-ct"))
    )
    edition = f"http://snomed.info/sct/{CORE}/version/20250101"
    for url, total in (
        ("http://snomed.info/sct?fhir_vs", 5),
        ("http://snomed.info/sct?fhir_vs=isa/404684003", 2),
        (f"{edition}?fhir_vs=isa/138875005", 3),
    ):
        found = get(server, "ValueSet/$expand", url=url, count=0)
        assert found["expansion"]["total"] == total, url
    found = get(server, "ValueSet/$expand", url="http://snomed.info/sct?fhir_vs", filter="pneu")
    assert [one["code"] for one in found["expansion"]["contains"]] == ["233604007"]
    isa = "http://snomed.info/sct?fhir_vs=isa/404684003"
    for code, holds in (("233604007", True), ("39607008", False)):
        said = get(server, "ValueSet/$validate-code", url=isa, system=SCT, code=code)
        assert said["parameter"][0]["valueBoolean"] is holds
    for url in ("http://snomed.info/sct?fhir_vs=refset/7", f"{SCT}?fhir_vs=ecl/<<1"):
        get(server, "ValueSet/$expand", 422, url=url)
