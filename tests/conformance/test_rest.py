"""Headers, status and errors, numbered as in the list of what a conformance tester checks."""

from __future__ import annotations

import httpx
import pytest

from tests.serving import BASE, Server, issue

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
