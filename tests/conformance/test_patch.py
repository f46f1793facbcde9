"""PATCH and conditional PATCH, alone and in Bundles."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.serving import Json, Server, issue

JSON_PATCH = "application/json-patch+json"
XML_PATCH = "application/xml-patch+xml"
PATIENT: Json = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:x", "value": "1"}],
    "name": [{"family": "Doe", "given": ["A", "B"]}],
    "active": True,
}
FHIRPATH: Json = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "replace"},
                {"name": "path", "valueString": "Patient.active"},
                {"name": "value", "valueBoolean": False},
            ],
        }
    ],
}
FHIRPATH_XML = """<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>
<part><name value="type"/><valueCode value="replace"/></part>
<part><name value="path"/><valueString value="Patient.active"/></part>
<part><name value="value"/><valueBoolean value="false"/></part></parameter></Parameters>"""
INACTIVE: list[tuple[str, bytes]] = [
    (JSON_PATCH, b'[{"op":"replace","path":"/active","value":false}]'),
    (
        XML_PATCH,
        b'<diff xmlns:f="http://hl7.org/fhir">'
        b'<replace sel="f:Patient/f:active/@value">false</replace></diff>',
    ),
    ("application/fhir+json", json.dumps(FHIRPATH).encode()),
    ("application/fhir+xml", FHIRPATH_XML.encode()),
]


def patch(server: Server, url: str, operations: Any, **headers: str) -> Any:
    content = json.dumps(operations).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.send("PATCH", url, content=content, headers={"content-type": JSON_PATCH} | named)


def carried(entry: tuple[str, bytes]) -> Json:
    """The resource that carries a patch in a Bundle."""
    media, document = entry
    if media == "application/fhir+json":
        return FHIRPATH
    data = base64.b64encode(document).decode()
    return {"resourceType": "Binary", "contentType": media, "data": data}


@pytest.mark.parametrize(("media", "document"), INACTIVE)
def test_c20_every_format(server: Server, media: str, document: bytes) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    answer = server.send("PATCH", url, content=document, headers={"content-type": media})
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == 'W/"2"' and "last-modified" in answer.headers
    assert server.get(url).json()["active"] is False
    history = server.get(f"{url}/_history").json()["entry"]
    assert history[0]["request"] == {"method": "PATCH", "url": url}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize("entry", [INACTIVE[0], INACTIVE[1], INACTIVE[2]])
@pytest.mark.parametrize("url", ["Patient/{id}", "Patient?identifier=urn:x|1"])
def test_c20_in_bundles(server: Server, kind: str, entry: tuple[str, bytes], url: str) -> None:
    id_ = server.create(PATIENT)["id"]
    request = {"method": "PATCH", "url": url.format(id=id_)}
    body = {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [{"resource": carried(entry), "request": request}],
    }
    answer = server.post("", body)
    [response] = [e["response"] for e in answer.json()["entry"]]
    assert (response["status"], response["etag"]) == ("200 OK", 'W/"2"')
    assert server.get(f"Patient/{id_}").json()["active"] is False


@pytest.mark.parametrize(
    ("operations", "status"),
    [
        ([{"op": "test", "path": "/active", "value": False}], 422),
        ([{"op": "replace", "path": "/id", "value": "other"}], 422),
        ([{"op": "replace", "path": "/resourceType", "value": "Group"}], 422),
        ([{"op": "replace", "path": "/meta/versionId", "value": "9"}], 422),
        ([{"op": "remove", "path": "/id"}], 422),
        ([{"op": "add", "path": "/unknown", "value": 1}], 422),
        ([{"op": "replace", "path": "/active", "value": "yes"}], 422),
        ([{"op": "remove", "path": "/photo"}], 422),
        ([{"op": "nothing", "path": "/active"}], 400),
        ({"op": "remove"}, 400),
        ("text", 400),
    ],
)
def test_c20_refused(server: Server, operations: Any, status: int) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    answer = patch(server, url, operations)
    assert answer.status_code == status, answer.text
    issue(answer)
    assert server.get(url).headers["etag"] == 'W/"1"'


def test_c20_no_empty_arrays(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    remove = [{"op": "remove", "path": "/name/0/given/0"}] * 2
    assert patch(server, url, remove).status_code == 200
    assert server.get(url).json()["name"] == [{"family": "Doe"}]


def test_c20_missing(server: Server) -> None:
    change = [{"op": "remove", "path": "/active"}]
    assert patch(server, "Patient/none", change).status_code == 404
    made = server.create(PATIENT)
    server.delete(f"Patient/{made['id']}")
    assert patch(server, f"Patient/{made['id']}", change).status_code == 410
    assert patch(server, "Patient?identifier=none", change).status_code == 404
    assert patch(server, "Patient", change).status_code == 400


@pytest.mark.parametrize("media", ["application/json", "text/xml", "text/plain", ""])
def test_c20_media_types(server: Server, media: str) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    headers = {"content-type": media} if media else {}
    assert server.send("PATCH", url, content=b"[]", headers=headers).status_code == 415


def test_c04_if_match_on_patch(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    change = [{"op": "remove", "path": "/active"}]
    assert patch(server, url, change, if_match='W/"2"').status_code == 412
    assert patch(server, "Patient?active=true", change, if_match='W/"2"').status_code == 412
    assert patch(server, url, change, if_match='W/"7", W/"1"').status_code == 200
    entry = {
        "resource": carried(INACTIVE[0]),
        "request": {"method": "PATCH", "url": url, "ifMatch": 'W/"1"'},
    }
    for kind, status in (("transaction", 412), ("batch", 200)):
        answer = server.post("", {"resourceType": "Bundle", "type": kind, "entry": [entry]})
        assert answer.status_code == status
    assert answer.json()["entry"][0]["response"]["status"].startswith("412")


def test_conditional_patch(server: Server) -> None:
    made = server.create(PATIENT)
    change = [{"op": "replace", "path": "/active", "value": False}]
    answer = patch(server, "Patient?identifier=urn:x|1&active=true", change)
    assert (answer.status_code, answer.json()["id"]) == (200, made["id"])
    server.create(PATIENT)
    assert patch(server, "Patient?identifier=urn:x|1", change).status_code == 412
    assert patch(server, "Patient?nothing=1", change).status_code == 400


def test_hidden_is_unused(secured: Server) -> None:
    system = secured.bearer("system/*.cruds")
    for id_ in ("mine", "theirs"):
        body = PATIENT | {"id": id_}
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code == 201
    own = secured.bearer("patient/*.cruds", patient="mine")
    change = [{"op": "replace", "path": "/active", "value": False}]
    assert patch(secured, "Patient/mine", change, **own).status_code == 200
    hidden = patch(secured, "Patient/theirs", change, **own)
    unused = patch(secured, "Patient/nobody", change, **own)
    assert hidden.status_code == unused.status_code == 404
    assert hidden.text.replace("theirs", "nobody") == unused.text
    assert patch(secured, "Patient?_id=theirs", change, **own).status_code == 404
    reader = secured.bearer("system/*.rs")
    assert patch(secured, "Patient/theirs", change, **reader).status_code == 403


def test_links_in_a_patch(server: Server) -> None:
    observation = server.create(
        {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    )
    operations = [{"op": "add", "path": "/subject", "value": {"reference": "urn:uuid:a"}}]
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    body = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:a",
                "resource": PATIENT,
                "request": {"method": "POST", "url": "Patient"},
            },
            {
                "resource": {"resourceType": "Binary", "contentType": JSON_PATCH, "data": data},
                "request": {"method": "PATCH", "url": f"Observation/{observation['id']}"},
            },
        ],
    }
    answer = server.post("", body).json()
    made = answer["entry"][0]["response"]["location"].split("/_history")[0]
    patched = server.get(f"Observation/{observation['id']}").json()
    assert patched["subject"] == {"reference": made}


def test_concurrent_patches_lose_nothing(server: Server) -> None:
    """Each of many patches at once works on what the others left."""
    url = f"Patient/{server.create(PATIENT)['id']}"
    add = [{"op": "add", "path": "/name/-", "value": {"text": "more"}}]
    options = {"headers": {"content-type": JSON_PATCH}, "content": json.dumps(add).encode()}
    answers = server.send_all([("PATCH", url, options)] * 16)
    assert [a.status_code for a in answers] == [200] * 16
    assert len(server.get(url).json()["name"]) == 17


def test_c20_an_element_is_not_mistaken_for_a_choice(server: Server) -> None:
    """DeviceDefinition has ``language`` and ``languageCode``."""
    made = server.create({"resourceType": "DeviceDefinition", "language": "en"})
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "DeviceDefinition.language"},
        {"name": "value", "valueCode": "de"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    answer = server.send("PATCH", f"DeviceDefinition/{made['id']}", json=patch)
    assert answer.status_code == 200, answer.text
    assert answer.json()["language"] == "de" and "languageCode" not in answer.json()
