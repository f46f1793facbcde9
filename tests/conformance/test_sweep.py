"""Every official example by every interaction, in JSON and in XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.formats import xml
from fhir_server.formats.json import Limits, dumps, loads
from tests.serving import Json, Server, issue, served

JSON, XML = "application/fhir+json", "application/fhir+xml"
LIMITS = Limits(body=50_000_000, depth=128, string=20_000_000, array=1_000_000)
INVALID = frozenset(
    {"EventDefinition-example", "ImplementationGuide-fhir", "ig-r4", "Observation-clinical-gender"}
    | {"Questionnaire-qs1", "Questionnaire-zika-virus-exposure-assessment"}
)
"""Examples that are not valid: ``tests/validation/test_examples.py`` says why."""


def resources(shared: Path, step: int) -> Iterator[tuple[str, Json]]:
    paths = sorted((shared / "conformance" / "examples").rglob("*.json"))
    for path in paths[::step]:
        resource = loads(path.read_bytes(), LIMITS)
        yield path.stem, resource


def content(resource: Json) -> Json:
    """A resource without what the server says of it."""
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in SERVERS}
    rest = {k: v for k, v in resource.items() if k not in ("id", "meta")}
    return rest | ({"meta": meta} if meta else {})


SERVERS = ("versionId", "lastUpdated")
ETAGS = ['W/"3"', 'W/"2"', 'W/"1"']


def lives(server: Server, resource: Json) -> None:
    """One resource through all that can happen to it."""
    definitions, type_ = server.domain.definitions, resource["resourceType"]

    def parsed(body: bytes) -> Json:
        return xml.loads(body, definitions) if body[:1] == b"<" else loads(body, LIMITS)

    created = server.send(
        "POST", type_, content=dumps(resource), headers={"content-type": JSON, "accept": XML}
    )
    assert created.status_code == 201, created.text
    id_ = parsed(created.content)["id"]
    url = f"{type_}/{id_}"
    for accept in (JSON, XML):
        for place in (url, f"{url}/_history/1"):
            answer = server.get(place, headers={"accept": accept})
            assert answer.status_code == 200 and answer.headers["etag"] == 'W/"1"'
            assert content(parsed(answer.content)) == content(resource), (accept, place)
    tagged = parsed(server.get(url).content)
    tagged["meta"]["tag"] = [*tagged["meta"].get("tag", ()), {"code": "swept"}]
    updated = server.send(
        "PUT", url, content=xml.dumps(tagged, definitions), headers={"content-type": XML}
    )
    assert (updated.status_code, updated.headers["etag"]) == (200, 'W/"2"'), updated.text
    assert content(parsed(updated.content)) == content(tagged)
    patched = server.send(
        "PATCH",
        url,
        content=b'[{"op":"add","path":"/language","value":"en-GB"}]',
        headers={"content-type": "application/json-patch+json"},
    )
    assert patched.status_code == 200, patched.text
    assert content(parsed(patched.content)) == content(tagged) | {"language": "en-GB"}
    versions = server.get(f"{url}/_history", headers={"accept": XML})
    assert [e["response"]["etag"] for e in parsed(versions.content)["entry"]] == ETAGS
    found = json.loads(server.get(f"{type_}?_id={id_}").content)
    assert [e["resource"]["id"] for e in found["entry"]] == [id_]
    assert server.delete(url).status_code == 204
    assert issue(server.get(url))["code"] == "deleted"


@pytest.mark.slow
def test_every_example(shared: Path, tmp_path: Path) -> None:
    sweep(shared, tmp_path, "sqlite", 1)


def test_some_examples(shared: Path, tmp_path: Path) -> None:
    sweep(shared, tmp_path, "memory", 30)


def sweep(shared: Path, folder: Path, backend: str, step: int) -> None:
    failures: list[str] = []
    swept = 0
    limits = {"max_string": LIMITS.string, "max_body": LIMITS.body}
    with served(backend, folder, **limits) as server:
        for name, resource in resources(shared, step):
            try:
                lives(server, resource)
            except AssertionError as error:
                failures.append(f"{name}: {str(error)[:300]}")
            swept += 1
    unexpected = [failure for failure in failures if failure.split(":")[0] not in INVALID]
    assert not unexpected, "\n".join(unexpected[:20])
    assert swept > (300 if step == 1 else 9)
