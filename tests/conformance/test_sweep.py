"""Every official example by every interaction, in JSON and in XML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.formats import xml
from fhir_server.formats.json import Limits, dumps, loads
from tests.conformance.own_values import searches
from tests.serving import BACKENDS, Json, Server, issue, served

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
ETAGS = [f'W/"{version}"' for version in (5, 4, 3, 2, 1)]


CODES: Json = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode"}
RESTRICTED: Json = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "code": "R",
}
LABELS: dict[str, list[Json]] = {
    "Condition-f202": [RESTRICTED],  # labelled TBOO by its author, which is not common knowledge
    "PlanDefinition-low-suicide-risk-order-set": [CODES | {"code": "PSY"}, RESTRICTED],
    "PlanDefinition-opioidcds-08": [CODES | {"code": "SUD"}, RESTRICTED],
}
"""What the server says by its own rules of how sensitive these examples are; of no others."""


def labelled(name: str, resource: Json) -> Json:
    """An example as it is stored: with the labels that the server gives it."""
    if name not in LABELS:
        return resource
    meta = resource.get("meta", {})
    security = [*meta.get("security", ()), *LABELS[name]]
    return resource | {"meta": meta | {"security": security}}


def lives(server: Server, name: str, resource: Json) -> None:
    """One resource through all that can happen to it."""
    stored = content(labelled(name, resource))
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
            assert content(parsed(answer.content)) == stored, (accept, place)
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
    for language, media, patch in (
        ("de", JSON, fhirpath_patch(f"{type_}.language", "de")),
        ("fr", "application/xml-patch+xml", XML_PATCH.format(type_)),
    ):
        patched = server.send("PATCH", url, content=patch, headers={"content-type": media})
        assert patched.status_code == 200, patched.text
        assert content(parsed(patched.content)) == content(tagged) | {"language": language}
    versions = server.get(f"{url}/_history", headers={"accept": XML})
    assert [e["response"]["etag"] for e in parsed(versions.content)["entry"]] == ETAGS
    is_found(server, type_, id_, parsed(patched.content))
    assert server.delete(url).status_code == 204
    assert issue(server.get(url))["code"] == "deleted"
    assert json.loads(server.get(f"{type_}?_id={id_}").content)["total"] == 0
    revived = server.send("PUT", url, content=dumps(tagged), headers={"content-type": JSON})
    assert (revived.status_code, revived.headers["etag"]) == (200, 'W/"7"'), revived.status_code
    assert content(parsed(server.get(url).content)) == content(tagged)
    in_bundles(server, url, tagged, parsed)


XML_PATCH = (
    '<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:{}/f:language/@value">fr</replace></diff>'
)


def fhirpath_patch(path: str, code: str) -> bytes:
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": path},
        {"name": "value", "valueCode": code},
    ]
    operation = {"name": "operation", "part": parts}
    return dumps({"resourceType": "Parameters", "parameter": [operation]})


def is_found(server: Server, type_: str, id_: str, resource: Json) -> None:
    """By its id, and by its own index values: by all of them at once, then by each."""
    values = server.domain.engine.extract(resource)
    pairs = list(searches(server.domain.searching.schema, type_, values))
    for start in range(0, max(len(pairs), 1), 20):
        some = pairs[start : start + 20]
        if not finds(server, type_, id_, some):
            lost = [pair for pair in some if not finds(server, type_, id_, [pair])]
            raise AssertionError(f"not found by {lost or some}")


def finds(server: Server, type_: str, id_: str, pairs: list[tuple[str, str]]) -> bool:
    query = {"_id": id_, "_elements": "id"}
    answer = server.get(type_, params=[*query.items(), *pairs], headers={"prefer": STRICT})
    found = json.loads(answer.content)
    return [entry["resource"]["id"] for entry in found.get("entry", ())] == [id_]


STRICT = "handling=strict"


def in_bundles(server: Server, url: str, resource: Json, parsed: Callable[[bytes], Json]) -> None:
    """Created and read by a transaction, updated and read by a batch."""
    type_, _, id_ = url.partition("/")
    get = {"request": {"method": "GET", "url": url}}
    post = {"resource": resource, "request": {"method": "POST", "url": type_}}
    put = {"resource": resource | {"id": id_, "language": "it"}}
    put["request"] = {"method": "PUT", "url": url}
    for kind, write, wanted in (
        ("transaction", post, content(resource)),
        ("batch", put, content(resource) | {"language": "it"}),
    ):
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [write, get]}
        headers = {"content-type": JSON, "prefer": "return=representation"}
        answer = server.send("POST", "", content=dumps(bundle), headers=headers)
        assert answer.status_code == 200, answer.text
        written, read = parsed(answer.content)["entry"]
        if type_ != "Binary":
            shown = written.get("resource") or written["response"]["outcome"]
            assert content(shown) == wanted, (kind, written)
            assert content(read["resource"]) == (wanted if kind == "batch" else content(resource))
        assert written["response"]["status"] == ("201 Created" if write is post else "200 OK")


@pytest.mark.prove
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_example(shared: Path, tmp_path: Path, backend: str) -> None:
    sweep(shared, tmp_path, backend, 1)


@pytest.mark.slow
def test_many_examples(shared: Path, tmp_path: Path) -> None:
    sweep(shared, tmp_path, "sqlite", 11)


def test_some_examples(shared: Path, tmp_path: Path) -> None:
    sweep(shared, tmp_path, "memory", 60)


def sweep(shared: Path, folder: Path, backend: str, step: int) -> None:
    failures: list[str] = []
    swept = 0
    limits = {"max_string": LIMITS.string, "max_body": LIMITS.body}
    with served(backend, folder, **limits) as server:
        for name, resource in resources(shared, step):
            try:
                lives(server, name, resource)
            except AssertionError as error:
                failures.append(f"{name}: {str(error)[:300]}")
            swept += 1
    unexpected = [failure for failure in failures if failure.split(":")[0] not in INVALID]
    assert not unexpected, "\n".join(unexpected[:20])
    assert swept > 300 // step
