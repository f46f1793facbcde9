"""Headers, status and errors, numbered as in the list of what a conformance tester checks."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from fhir_server.formats import xml
from fhir_server.formats.json import loads
from tests.serving import BACKENDS, BASE, Server, issue, served

PATIENT = {"resourceType": "Patient", "name": [{"family": "Doe"}]}


def test_c01_create(server: Server) -> None:
    sent = PATIENT | {
        "id": "mine",
        "meta": {"versionId": "9", "lastUpdated": "2001-01-01T00:00:00Z"},
    }
    answer = server.post("Patient", sent)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{BASE}/Patient/{made['id']}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"].endswith("GMT")
    assert made["id"] != "mine" and made["meta"]["versionId"] == "1"
    assert made["meta"]["lastUpdated"] > "2020"


def test_c02_etag_is_the_version_everywhere(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    assert server.get(url).headers["etag"] == 'W/"1"'
    assert server.put(url, made | {"active": True}).headers["etag"] == 'W/"2"'
    assert server.get(f"{url}/_history/1").headers["etag"] == 'W/"1"'
    assert server.get(url).json()["meta"]["versionId"] == "2"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('W/"1"', 200),
        ('"1"', 200),
        ("1", 200),
        ('W/"7", W/"1"', 200),
        ("*", 200),
        ('W/"2"', 412),
        ('W/"abc"', 412),
        ('W/"3", "4"', 412),
        ('W/"1', 400),
        ("", 400),
        ("a b", 400),
    ],
)
def test_c03_if_match_forms(server: Server, header: str, status: int) -> None:
    made = server.create(PATIENT)
    answer = server.put(f"Patient/{made['id']}", made, headers={"if-match": header})
    assert answer.status_code == status, answer.text
    if status > 200:
        issue(answer)


def test_c04_if_match_on_delete(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    assert server.delete(url, headers={"if-match": 'W/"2"'}).status_code == 412
    assert server.get(url).status_code == 200
    assert server.delete(url, headers={"if-match": 'W/"1"'}).status_code == 204
    assert server.delete("Patient/none", headers={"if-match": 'W/"1"'}).status_code == 412


def test_c05_conditional_read(server: Server) -> None:
    made = server.post("Patient", PATIENT)
    url = f"Patient/{made.json()['id']}"
    for headers in (
        {"if-none-match": 'W/"1"'},
        {"if-none-match": "*"},
        {"if-modified-since": made.headers["last-modified"]},
    ):
        answer = server.get(url, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == 'W/"1"'
    earlier = {"if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert server.get(url, headers=earlier).status_code == 200
    assert server.get(url, headers={"if-none-match": 'W/"2"'}).status_code == 200
    assert server.get(url, headers={"if-modified-since": "yesterday"}).status_code == 200


def test_c06_put_creates_and_updates(server: Server) -> None:
    answer = server.put("Patient/a-1", PATIENT | {"id": "a-1"})
    assert (answer.status_code, answer.headers["location"]) == (
        201,
        f"{BASE}/Patient/a-1/_history/1",
    )
    assert server.put("Patient/a-1", PATIENT | {"id": "a-1"}).status_code == 200


@pytest.mark.parametrize(
    ("url", "body", "status"),
    [
        ("Patient/a", PATIENT, 400),
        ("Patient/a", PATIENT | {"id": "b"}, 400),
        ("Patient/a", PATIENT | {"id": 5}, 400),
        ("Patient/a", {"resourceType": "Observation", "id": "a"}, 400),
        ("Patient/a", {"id": "a"}, 400),
        ("patient/a", PATIENT | {"id": "a"}, 404),
        ("Nothing/a", PATIENT | {"id": "a"}, 404),
    ],
)
def test_c07_body_and_url(server: Server, url: str, body: dict[str, object], status: int) -> None:
    answer = server.put(url, body)
    assert answer.status_code == status
    issue(answer)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("Patient/" + "a" * 64, 404),
        ("Patient/" + "a" * 65, 400),
        ("Patient/a_b", 400),
        ("Patient/a%20b", 400),
        ("Patient/%C3%A9", 400),
        ("Patient/a/_history/x", 404),
        ("Patient/a/_history/a_b", 400),
        ("Patient/unknown", 404),
    ],
)
def test_c08_ids(server: Server, url: str, status: int) -> None:
    answer = server.get(url)
    assert answer.status_code == status
    issue(answer)


def test_c09_deleted(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    assert server.delete(url).status_code == 204
    gone = server.get(url)
    assert (gone.status_code, gone.headers["etag"]) == (410, 'W/"2"')
    assert issue(gone)["code"] == "deleted"
    assert server.get(f"{url}/_history/2").status_code == 410
    assert server.get(f"{url}/_history/1").json() == made
    assert server.get("Patient").json().get("total") == 0


def test_c10_delete_again(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    first, again, never = server.delete(url), server.delete(url), server.delete("Patient/never")
    assert [a.status_code for a in (first, again, never)] == [204] * 3
    assert [a.content for a in (first, again, never)] == [b""] * 3
    assert [a.headers.get("etag") for a in (first, again, never)] == ['W/"2"', None, None]
    assert server.get(f"{url}/_history").json()["total"] == 2


def bare(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """What an answer says, but for the name of its request."""
    return answer.status_code, answer.content, {**answer.headers, "x-request-id": ""}


def test_c10_only_who_may_read_is_told_of_a_deletion(secured: Server) -> None:
    """The version of a deletion says that there was something."""
    everything = secured.bearer("system/*.cruds")
    mine, other = secured.create(PATIENT, headers=everything), "never"
    theirs = secured.create(PATIENT, headers=everything)
    for scope, holder in (
        ("system/Patient.d", {}),
        ("patient/Patient.rd", {"patient": mine["id"]}),
    ):
        headers = secured.bearer(scope, **holder)
        hidden = theirs if holder else secured.create(PATIENT, headers=everything)
        answers = [
            secured.delete(f"Patient/{id_}", headers=headers) for id_ in (hidden["id"], other)
        ]
        assert bare(answers[0]) == bare(answers[1])
    assert secured.get(f"Patient/{theirs['id']}", headers=everything).status_code == 200
    headers = secured.bearer("system/Patient.rd")
    assert secured.delete(f"Patient/{mine['id']}", headers=headers).headers["etag"] == 'W/"2"'


def test_c11_the_version_of_a_deletion_guards_the_return(server: Server) -> None:
    """http.html#delete: ETag on the response, for version contention when it is brought back."""
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    etag = server.delete(url).headers["etag"]
    body = PATIENT | {"id": made["id"]}
    assert server.put(url, body, headers={"if-match": 'W/"1"'}).status_code == 412
    back = server.put(url, body, headers={"if-match": etag})
    assert (back.status_code, back.headers["etag"]) == (200, 'W/"3"')
    assert server.delete(f"Patient?_id={made['id']}").headers["etag"] == 'W/"4"'
    assert server.delete(f"Patient?_id={made['id']}").headers.get("etag") is None
    assert server.put(url, body, headers={"if-match": etag}).status_code == 412


def test_c11_put_revives(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    server.delete(url)
    answer = server.put(url, made)
    assert answer.status_code in (200, 201) and answer.headers["etag"] == 'W/"3"'
    history = server.get(f"{url}/_history").json()
    assert [e["request"]["method"] for e in history["entry"]] == ["PUT", "DELETE", "POST"]
    assert ["resource" in e for e in history["entry"]] == [True, False, True]
    assert [e["response"]["etag"] for e in history["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"", {}, 400),
        (b'{"resourceType":"Patient"}', {"content-type": "text/plain"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/fhir+xml"}, 400),
        (b"<Patient/>", {"content-type": "application/xml"}, 400),
        (b"<Patient", {"content-type": "text/xml"}, 400),
        (b"@prefix", {"content-type": "text/turtle"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/fhir+ndjson"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/json; charset=latin1"}, 415),
        (b'{"resourceType":"Patient"}', {"content-encoding": "br"}, 415),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+turtle"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+ndjson"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "image/png"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+json;fhirVersion=5.0"}, 406),
    ],
)
def test_c13_bodies(server: Server, content: bytes, headers: dict[str, str], status: int) -> None:
    headers = {"content-type": "application/fhir+json"} | headers
    answer = server.send("POST", "Patient", content=content, headers=headers)
    assert answer.status_code == status
    if "xml" not in headers["content-type"]:
        issue(answer)


JSON_TYPE = "application/fhir+json; charset=utf-8"
XML_TYPE = "application/fhir+xml; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "accept", "status", "media"),
    [
        ("", "application/json", 200, JSON_TYPE),
        ("", "application/fhir+json", 200, JSON_TYPE),
        ("", "application/fhir+json; fhirVersion=4.0", 200, JSON_TYPE),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", 200, JSON_TYPE),
        ("", "application/fhir+json;q=0", 406, JSON_TYPE),
        ("", "application/xml", 200, XML_TYPE),
        ("", "text/xml", 200, XML_TYPE),
        ("", "application/fhir+xml;fhirVersion=4.0", 200, XML_TYPE),
        ("", "application/fhir+xml;fhirVersion=5.0", 406, JSON_TYPE),
        ("", "application/fhir+json;q=0.5, application/fhir+xml", 200, XML_TYPE),
        ("", "application/fhir+json, application/fhir+xml;q=0.9", 200, JSON_TYPE),
        ("", "*/*;q=0.1, application/xml;q=0.2", 200, XML_TYPE),
        ("?_format=json", "application/xml", 200, JSON_TYPE),
        ("?_format=xml", "application/json", 200, XML_TYPE),
        ("?_format=application/fhir+xml", "application/json", 200, XML_TYPE),
        ("?_format=text/xml", "application/json", 200, XML_TYPE),
        ("?_format=application/fhir%2Bjson", "image/png", 200, JSON_TYPE),
        ("?_format=application/fhir+json", "*/*", 200, JSON_TYPE),
        ("?_format=ttl", "*/*", 406, JSON_TYPE),
        ("?_format=html", "*/*", 406, JSON_TYPE),
    ],
)
def test_c15_format(server: Server, query: str, accept: str, status: int, media: str) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    answer = server.get(url + query, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (status, media)
    assert answer.content.startswith(b"<?xml" if media == XML_TYPE else b"{")


def test_c15_pretty(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    plain, pretty = server.get(url), server.get(url + "?_pretty=true")
    assert pretty.text.count("\n") > 5 and pretty.json() == plain.json()
    assert server.get(url + "?_pretty=maybe").status_code == 400


def test_c16_prefer(server: Server) -> None:
    def made(prefer: str) -> object:
        answer = server.post("Patient", PATIENT, headers={"prefer": prefer})
        assert answer.status_code == 201 and "location" in answer.headers
        return answer.json()["resourceType"] if answer.content else None

    assert made("return=minimal") is None
    assert made("return=representation") == "Patient"
    assert made("handling=strict; return=OperationOutcome") == "OperationOutcome"


def test_c17_conditional_create(server: Server) -> None:
    body = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    condition = {"if-none-exist": "identifier=urn:x|1"}
    first = server.post("Patient", body, headers=condition)
    second = server.post("Patient", body, headers=condition)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["location"] == first.headers["location"]
    assert second.json() == first.json()
    server.create(body)
    assert server.post("Patient", body, headers=condition).status_code == 412


@pytest.mark.parametrize("condition", ["", "unknown=1", "identifier=", "_count=1", "%zz=1"])
def test_c19_conditions_that_say_nothing(server: Server, condition: str) -> None:
    answer = server.post("Patient", PATIENT, headers={"if-none-exist": condition})
    assert answer.status_code in (400, 412)
    assert server.get("Patient").json()["total"] == 0


def test_head_is_get_without_a_body(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    head, get = server.send("HEAD", url), server.get(url)
    assert head.status_code == 200 and head.content == b""
    for name in ("etag", "last-modified", "content-length", "content-type"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("method", "url", "status", "allow"),
    [
        ("PUT", "metadata", 405, "GET, HEAD"),
        ("DELETE", "Patient/a/_history/1", 405, "GET, HEAD"),
        ("POST", "Patient/a", 405, "DELETE, GET, HEAD, PATCH, PUT"),
        ("TRACE", "Patient", 405, None),
        ("GET", "_history?unknown=1", 400, None),
        ("GET", "Nothing/_history", 404, None),
        ("PUT", "Patient/_history", 405, "GET, HEAD"),
        ("PUT", "Patient?identifier=1", 415, None),
        ("PATCH", "Patient/a", 415, None),
        ("GET", "Patient/a/Medication", 404, None),
        ("GET", "Patient/a/Observation/b", 404, None),
        ("POST", "Patient/a/Observation/b", 404, None),
        ("GET", "Location/a/Observation", 404, None),
        ("GET", "Location/a/*", 404, None),
        ("GET", "Patient/a/_history/1/2", 404, None),
        ("GET", "Nothing", 404, None),
        ("GET", "/vehr/metadata", 501, None),
        ("GET", "/research/metadata", 501, None),
        ("GET", "/other", 404, None),
        ("GET", "Patient/a?_summary=count", 400, None),
        ("GET", "Patient/a?_summary=true&_elements=name", 400, None),
        ("GET", "Patient/a?_elements=nothing", 400, None),
    ],
)
def test_what_is_not_there_says_so(
    server: Server, method: str, url: str, status: int, allow: str | None
) -> None:
    answer = server.send(method, url)
    assert answer.status_code == status, answer.text
    issue(answer)
    if allow is not None:
        assert answer.headers["allow"] == allow


def test_c18_conditional_update(server: Server) -> None:
    body = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    url = "Patient?identifier=urn:x|1"
    first = server.put(url, body)
    assert (first.status_code, first.headers["etag"]) == (201, 'W/"1"')
    made = first.json()["id"]
    changed = body | {"active": True}
    second = server.put(url, changed)
    assert (second.status_code, second.json()["id"]) == (200, made)
    assert second.headers["location"] == f"{BASE}/Patient/{made}/_history/2"
    assert server.put(url, changed | {"id": made, "active": False}).status_code == 200
    assert server.put(url, changed | {"id": "other"}).status_code == 400
    assert server.put(url, changed, headers={"if-match": 'W/"1"'}).status_code == 412
    assert server.put("Patient?identifier=new", body, headers={"if-match": "*"}).status_code == 412
    given = server.put("Patient?identifier=new", body | {"id": "chosen"})
    assert (given.status_code, given.headers["location"]) == (
        201,
        f"{BASE}/Patient/chosen/_history/1",
    )
    # The id is in use by a resource that the condition does not find.
    assert server.put("Patient?identifier=new", body | {"id": "chosen"}).status_code == 412
    assert server.put(url, body).status_code == 412
    assert server.put("Patient?identifier=new", {"resourceType": "Group"}).status_code == 400


def test_c18_update_as_create_is_for_system_clients(secured: Server) -> None:
    own = secured.bearer("patient/*.cruds", patient="p")
    body = {"resourceType": "Practitioner", "id": "chosen"}
    for id_ in ("chosen", "other"):
        answer = secured.put("Practitioner?identifier=1", body | {"id": id_}, headers=own)
        assert answer.status_code == 405


def test_c18_conditional_delete(server: Server) -> None:
    url = "Patient?family=Doe"
    assert server.delete(url).status_code == 204
    made = server.create(PATIENT)
    assert server.delete(url, headers={"if-match": 'W/"2"'}).status_code == 412
    assert server.delete(url).status_code == 204
    assert server.get(f"Patient/{made['id']}").status_code == 410
    server.create(PATIENT)
    server.create(PATIENT)
    assert server.delete(url).status_code == 412
    assert server.get("Patient").json()["total"] == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_c18_multiple_by_declaration(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path, conditional_delete="multiple") as server:
        rest = server.get("metadata").json()["rest"][0]
        assert {r["conditionalDelete"] for r in rest["resource"]} == {"multiple"}
        for _ in range(5):
            server.create(PATIENT)
        keep = server.create({"resourceType": "Patient"})
        assert server.delete("Patient?family=Doe").status_code == 204
        assert [e["resource"]["id"] for e in server.get("Patient").json()["entry"]] == [keep["id"]]


@pytest.mark.parametrize("verb", ["create", "update"])
def test_c17_c18_are_atomic(server: Server, verb: str) -> None:
    """32 at once: one of them makes it, the others find it."""
    body = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    if verb == "create":
        headers = {"if-none-exist": "identifier=urn:x|1"}
        request = ("POST", "Patient", {"json": body, "headers": headers})
    else:
        request = ("PUT", "Patient?identifier=urn:x|1", {"json": body})
    answers = server.send_all([request] * 32)
    assert sorted(a.status_code for a in answers) == [200] * 31 + [201]
    assert len({a.json()["id"] for a in answers}) == 1
    assert server.get("Patient?identifier=urn:x|1").json()["total"] == 1


@pytest.mark.parametrize(
    "url", ["Patient", "Patient?unknown=1", "Patient?_count=1", "Patient?_id="]
)
def test_c19_conditions_of_urls(server: Server, url: str) -> None:
    made = server.create(PATIENT)
    assert server.put(url, PATIENT).status_code == 400
    assert server.delete(url).status_code == 400
    assert server.get(f"Patient/{made['id']}").json() == made


def test_c21_statement(server: Server) -> None:
    statement = server.get("metadata").json()
    assert server.get("metadata?mode=full").json() == statement
    for query in ("_summary=true", "_summary=data", "_elements=software,format", "_summary=text"):
        cut = server.get(f"metadata?{query}").json()
        assert cut["meta"]["tag"][0]["code"] == "SUBSETTED" and cut["fhirVersion"] == "4.0.1"
        assert ("software" in cut) == ("text" not in query)
        assert ("url" in cut) == ("_summary" in query and "text" not in query)
    assert server.get("metadata?_summary=false").json() == statement
    cut = server.get("metadata?mode=terminology&_summary=true").json()
    assert cut["resourceType"] == "TerminologyCapabilities"
    for query in ("_summary=count", "_summary=x", "_elements=nothing", "_sort=x"):
        assert server.get(f"metadata?{query}").status_code == 400, query
    codes = server.get("metadata?mode=terminology").json()
    assert codes["resourceType"] == "TerminologyCapabilities" and len(codes["codeSystem"]) > 700
    assert codes["expansion"]["paging"] and codes["closure"] == {"translation": False}
    for mode in ("normative", "x", "full&mode=terminology"):  # unsupported, not ignored
        assert server.get(f"metadata?mode={mode}").status_code == 400
    assert statement["fhirVersion"] == "4.0.1"
    assert {"json", "xml"} <= set(statement["format"])
    assert "application/json-patch+json" in statement["patchFormat"]
    patient = next(r for r in statement["rest"][0]["resource"] if r["type"] == "Patient")
    assert patient["conditionalUpdate"] and patient["conditionalDelete"] == "single"


def test_c13_xml_bodies(server: Server) -> None:
    body = '<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    for media in ("application/fhir+xml", "application/xml", "text/xml; charset=utf-8"):
        headers = {"content-type": media}
        answer = server.send("POST", "Patient", content=body.encode(), headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (201, XML_TYPE)
        id_ = answer.headers["location"].split("/")[-3]
        assert server.get(f"Patient/{id_}").json()["active"] is True
        asked = headers | {"accept": "application/json"}
        answer = server.send("POST", "Patient", content=body.encode(), headers=asked)
        assert answer.headers["content-type"] == JSON_TYPE
    bad = body.replace("active", "unknown").encode()
    answer = server.send("POST", "Patient", content=bad, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (422, XML_TYPE)
    assert b"<OperationOutcome" in answer.content


def test_c14_outcomes_in_xml(secured: Server) -> None:
    accept = {"accept": "application/fhir+xml"}
    for url, status in (("Patient/1", 401), ("Nothing", 401)):
        answer = secured.get(url, headers=accept)
        assert (answer.status_code, answer.headers["content-type"]) == (status, XML_TYPE)
        assert b"<OperationOutcome" in answer.content
    token = secured.bearer("system/*.rs")
    for url, status in (("Patient/1", 404), ("Nothing", 404), ("Patient/a_b", 400)):
        answer = secured.get(url, headers=accept | token)
        assert (answer.status_code, answer.headers["content-type"]) == (status, XML_TYPE)


def test_c15_bundles_in_xml(server: Server) -> None:
    server.create(PATIENT)
    plain = server.get("Patient?_format=xml")
    pretty = server.get("Patient?_format=xml&_pretty=true")
    assert plain.headers["content-type"] == XML_TYPE and b"<Bundle" in plain.content
    assert pretty.content.count(b"\n") > 10 > plain.content.count(b"\n")
    definitions = server.domain.definitions
    assert xml.loads(plain.content, definitions) == xml.loads(pretty.content, definitions)
    assert server.get("metadata?_format=xml").content.startswith(b"<?xml")
    head = server.send("HEAD", "metadata?_format=xml")
    assert (head.status_code, head.headers["content-type"], head.content) == (200, XML_TYPE, b"")


def test_no_change_makes_no_version(server: Server) -> None:
    made = server.post("Patient", PATIENT)
    url, body = f"Patient/{made.json()['id']}", made.json()
    for answer in (
        server.put(url, body),
        server.put(url, body | {"meta": {"versionId": "7"}}),
        server.put(f"Patient?_id={body['id']}", body, headers={"if-match": 'W/"1"'}),
        server.send(
            "PATCH",
            url,
            content=b'[{"op":"test","path":"/name/0/family","value":"Doe"}]',
            headers={"content-type": "application/json-patch+json"},
        ),
    ):
        assert (answer.status_code, answer.json()) == (200, body)
        assert answer.headers["etag"] == 'W/"1"'
        assert answer.headers["last-modified"] == made.headers["last-modified"]
    bundle = {"resourceType": "Bundle", "type": "transaction"}
    bundle["entry"] = [{"resource": body, "request": {"method": "PUT", "url": url}}]
    [entry] = server.post("", bundle).json()["entry"]
    assert (entry["response"]["status"], entry["response"]["etag"]) == ("200 OK", 'W/"1"')
    assert server.get(f"{url}/_history").json()["total"] == 1
    assert server.put(url, body | {"active": True}).headers["etag"] == 'W/"2"'


def test_if_none_match_on_put(server: Server) -> None:
    new = {"if-none-match": "*"}
    body = PATIENT | {"id": "a"}
    assert server.put("Patient/a", body, headers=new).status_code == 201
    assert server.put("Patient/a", body, headers=new).status_code == 412
    server.delete("Patient/a")
    assert server.put("Patient/a", body, headers=new).status_code == 200


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize(
    ("prefer", "shown"),
    [("minimal", None), ("representation", "Patient"), ("OperationOutcome", "OperationOutcome")],
)
def test_c16_prefer_everywhere(server: Server, kind: str, prefer: str, shown: str | None) -> None:
    headers = {"prefer": f"return={prefer}"}
    id_ = server.create(PATIENT)["id"]
    change = b'[{"op":"add","path":"/active","value":true}]'
    patch = headers | {"content-type": "application/json-patch+json"}
    for answer in (
        server.put(f"Patient/{id_}", PATIENT | {"id": id_, "gender": "other"}, headers=headers),
        server.send("PATCH", f"Patient/{id_}", content=change, headers=patch),
    ):
        assert answer.status_code == 200 and "etag" in answer.headers
        assert (answer.json()["resourceType"] if answer.content else None) == shown
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    [one] = server.post("", bundle, headers=headers).json()["entry"]
    found = one.get("resource") or one["response"].get("outcome") or {}
    assert found.get("resourceType") == shown
    assert one["response"]["etag"] == 'W/"1"' and "location" in one["response"]
    assert "lastModified" in one["response"]


def test_c22_cors_and_head(secured: Server) -> None:
    secured.client("app", redirects=("https://app.example/back",))
    origin = {"origin": "https://app.example"} | secured.bearer("system/*.cruds")
    exposed = secured.get("Patient", headers=origin).headers["access-control-expose-headers"]
    for name in ("Location", "Content-Location", "ETag", "Last-Modified"):
        assert name in exposed.split(", ")
    id_ = secured.create(PATIENT, headers=origin)["id"]
    for url in (
        "metadata",
        "Patient",
        f"Patient/{id_}",
        "Patient/_history",
        "_history",
        f"Patient/{id_}/_history",
        f"Patient/{id_}/_history/1",
    ):
        head, get = (secured.send(m, url, headers=origin) for m in ("HEAD", "GET"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.headers.get("etag") == get.headers.get("etag")


def test_c12_integrity_is_not_declared(server: Server) -> None:
    """Referential integrity on delete is not enforced, and the statement does not say so."""
    id_ = server.create(PATIENT)["id"]
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    server.create(observation | {"subject": {"reference": f"Patient/{id_}"}})
    assert server.delete(f"Patient/{id_}").status_code == 204
    for row in server.get("metadata").json()["rest"][0]["resource"]:
        assert "enforced" not in row["referencePolicy"]


def test_c14_every_refusal_is_an_outcome(secured: Server) -> None:
    token = secured.bearer("system/Observation.rs")
    for headers, url, status in (
        ({}, "Patient/1", 401),
        ({"authorization": "Bearer x"}, "Patient/1", 401),
        (token, "Patient/1", 403),
        (token, "Observation/none", 404),
        (token, "Observation?code:nothing=1", 400),
    ):
        answer = secured.get(url, headers=headers)
        assert answer.status_code == status
        issue(answer)


KEPT = (
    b'{"resourceType":"Patient","extension":[{"url":"http://u","valueDecimal":1.500}],'
    b'"contained":[{"resourceType":"Organization","id":"o","name":"\\u00dcbung \\ud83d\\ude00"}],'
    b'"birthDate":"2000-01-01","_birthDate":{"extension":[{"url":"http://b","valueDecimal":0.10}]},'
    b'"name":[{"given":["A",null,"C"],"_given":[null,{"extension":[{"url":"http://g",'
    b'"valueString":"x"}]},{"id":"c"}],"text":"two\\nlines\\tand more"}],'
    b'"managingOrganization":{"reference":"#o"}}'
)


def test_c85_round_trip(server: Server) -> None:
    sent = {"content-type": "application/fhir+json"}
    made = server.send("POST", "Patient", content=KEPT, headers=sent)
    assert made.status_code == 201, made.text
    id_ = made.json()["id"]
    body = server.get(f"Patient/{id_}").content
    for part in (b"1.500", b"0.10", b'["A",null,"C"]', "Übung 😀".encode()):
        assert part in body
    document = server.get(f"Patient/{id_}?_format=xml").content
    assert xml.loads(document, server.domain.definitions) == loads(body)
    again = server.send(
        "PUT", f"Patient/{id_}", content=document, headers={"content-type": "application/fhir+xml"}
    )
    assert again.status_code == 200
    read = loads(server.get(f"Patient/{id_}").content)
    assert {k: v for k, v in read.items() if k != "meta"} == {
        k: v for k, v in loads(body).items() if k != "meta"
    }


@pytest.mark.parametrize(
    ("members", "status"),
    [
        (b'"name":[null]', 422),
        (b'"name":[]', 422),
        (b'"name":[{}]', 422),
        (b'"name":{}', 422),
        (b'"gender":""', 422),
        (b'"gender":null', 422),
        (b'"nothing":1', 422),
        (b'"active":"true"', 422),
        (b'"active":true,"active":true', 400),
        (b'"active":true,', 400),
    ],
)
def test_c86_refused(server: Server, members: bytes, status: int) -> None:
    content = b'{"resourceType":"Patient",' + members + b"}"
    headers = {"content-type": "application/fhir+json"}
    answer = server.send("POST", "Patient", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    first = issue(answer)
    assert status == 400 or first["expression"]
