"""Bad input: nothing a client sends gives a 5xx, hangs, leaks a trace or half-writes.

T05 limits, T10 and T11 injection, T17 path traversal of the threat list.
"""

from __future__ import annotations

import gzip
import resource
import threading
import time
import zlib
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.http import bodies
from tests.serving import BASE, Server, issue

JSON = {"content-type": "application/fhir+json"}


def patient(members: str) -> bytes:
    return ('{"resourceType":"Patient"' + members + "}").encode()


def nested(depth: int) -> bytes:
    inner = '{"extension":[' * depth + '{"url":"http://x"}' + "]}" * depth
    return patient(f',"extension":[{inner}]')


T05 = {
    "body over 10 MB": (patient(f',"x":"{"a" * 10_000_001}"'), 413),
    "string over 1 MB": (patient(f',"name":[{{"family":"{"a" * 1_048_577}"}}]'), 400),
    "array over 10^5": (patient(f',"name":[{",".join(["{}"] * 100_001)}]'), 400),
    "deeper than 64": (nested(40), 400),
    "10^5 brackets": (b"[" * 100_000, 400),
    "10^5 brackets inside": (patient(',"a":' + "[" * 100_000), 400),
    "10^6 digits": (patient(f',"multipleBirthInteger":{"9" * 1_000_000}'), 400),
    "10^6 digits of a decimal": (patient(f',"x":0.{"9" * 1_000_000}'), 400),
    "huge exponent": (patient(',"x":1e999999999'), 400),
    "duplicate keys": (patient(',"gender":"male","gender":"female"'), 400),
    "duplicate keys by escape": (patient(',"gender":"male","\\u0067ender":"female"'), 400),
    "NaN": (patient(',"x":NaN'), 400),
    "Infinity": (patient(',"x":-Infinity'), 400),
    "lone surrogate": (patient(',"name":[{"family":"\\ud800"}]'), 400),
    "raw surrogate": (
        patient(',"name":[{"family":"').replace(b"}", b"") + b'\xed\xa0\x80"}]}',
        400,
    ),
    "NUL": (patient(',"name":[{"family":"a\\u0000b"}]'), 400),
    "raw NUL": (patient(',"name":[{"family":"a\x00b"}]'), 400),
    "not UTF-8": (patient(',"name":[{"family":"') + b"\xff", 400),
    "UTF-16": ('{"resourceType":"Patient"}'.encode("utf-16"), 400),
    "nothing": (b"", 400),
    "a number": (b"1", 400),
    "truncated": (b'{"resourceType":"Pat', 400),
    "trailing": (b'{"resourceType":"Patient"} x', 400),
    "a type that is no string": (b'{"resourceType":["Patient"]}', 400),
    "a name that is no list": (patient(',"name":"x"'), 422),
    "an empty object": (patient(',"name":[{}]'), 422),
}


@pytest.mark.parametrize("name", T05)
def test_t05_limits(server: Server, name: str) -> None:
    content, status = T05[name]
    started, before = time.monotonic(), _peak()
    answer = server.send("POST", "Patient", content=content, headers=JSON)
    assert answer.status_code == status, answer.text[:300]
    assert time.monotonic() - started < 1
    assert _peak() - before < 50_000_000
    assert "Traceback" not in answer.text and ".py" not in answer.text
    issue(answer)
    assert server.get("Patient").json()["total"] == 0


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_t05_streamed_body_without_length(server: Server) -> None:
    sent = 0

    async def chunks():  # type: ignore[no-untyped-def]
        nonlocal sent
        for _ in range(1000):
            sent += 100_000
            yield b" " * 100_000

    answer = server.send("POST", "Patient", content=chunks(), headers=JSON)
    assert answer.status_code == 413


def test_t05_headers_and_url(server: Server) -> None:
    assert server.get("Patient?name=" + "a" * 20_000).status_code == 400
    assert server.get("Patient", headers={"x-long": "a" * 40_000}).status_code == 400
    assert server.get("Patient", headers={"content-length": "x"}).status_code == 413
    assert server.get("Patient?" + "&".join(["name=a"] * 500)).status_code == 400


def compressed(server: Server, content: bytes, name: str = "gzip") -> httpx.Response:
    headers = JSON | {"content-encoding": name}
    return server.send("POST", "Patient", content=content, headers=headers)


def test_t06_compressed_bodies(server: Server) -> None:
    patient = b'{"resourceType":"Patient","active":true}'
    for name, content in (
        ("gzip", gzip.compress(patient)),
        ("GZIP", gzip.compress(patient)),
        ("deflate", zlib.compress(patient)),
        ("identity", patient),
    ):
        assert compressed(server, content, name).json()["active"] is True, name
    for name in ("br", "zstd", "gzip, gzip", "x"):
        refused = compressed(server, patient, name)
        assert refused.status_code == 415 and "gzip" in refused.headers["accept-encoding"]
    whole = gzip.compress(patient)
    for broken in (patient, whole[:-1], whole + b"x", whole + whole, b""):
        assert compressed(server, broken).status_code == 400


def test_t06_bombs_cost_no_more_than_a_body(server: Server) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = compressed(server, bomb)
    assert refused.status_code == 413 and issue(refused)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_large_answers_are_compressed_for_who_takes_that(server: Server) -> None:
    plain = server.get("metadata", headers={"accept-encoding": "identity"})
    for accepted, expected in (
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("br", None),
        ("*", None),
    ):
        answer = server.get("metadata", headers={"accept-encoding": accepted})
        assert answer.headers.get("content-encoding") == expected, accepted
        assert answer.content == plain.content
    page = {"accept-encoding": "gzip", "origin": "http://localhost"}
    assert "Accept-Encoding" in server.get("metadata", headers=page).headers["vary"]
    small = server.get("Patient/none", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


T10_T11 = [
    "{'$gt':''}",
    '{"$gt":""}',
    "$where",
    "' OR '1'='1",
    '" OR ""="',
    "x'; DROP TABLE resource; --",
    "%",
    "_",
    "a%",
    "\\%",
    "(a+)+$",
    ".*",
    "[a-z]",
    "\\",
    "NULL",
    "a\tb",
    "*",
    "$.name",
]


@pytest.mark.parametrize("value", T10_T11)
def test_t10_t11_values_are_literal(server: Server, value: str) -> None:
    made = server.create({"resourceType": "Patient", "name": [{"family": "Doe"}]})
    for parameter in ("name", "name:contains", "name:exact", "identifier", "gender", "_id"):
        answer = server.send("GET", "Patient", params={parameter: value})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            assert answer.json()["total"] == 0, (parameter, value)
    odd = {"resourceType": "Patient", "name": [{"family": f"x{value}x"}]}
    server.create(odd)
    escaped = (
        value.replace("\\", "\\\\").replace("$", "\\$").replace(",", "\\,").replace("|", "\\|")
    )
    found = server.send("GET", "Patient", params={"name:contains": escaped}).json()
    assert found["total"] == (0 if value == "%%" else 1)
    assert server.get(f"Patient/{made['id']}").status_code == 200


@pytest.mark.parametrize(
    "name", ["name[$ne]", "$where", "name.$", "a.b", "name[]", "n%00", "x'--", ""]
)
def test_t10_parameter_names(server: Server, name: str) -> None:
    strict = {"prefer": "handling=strict"}
    answer = server.get(f"Patient?{name}=x", headers=strict)
    assert answer.status_code == 400, answer.text


def test_t10_keys_in_a_body(server: Server) -> None:
    for key in ("$where", "a.b", "$ne", "__proto__"):
        answer = server.post("Patient", {"resourceType": "Patient", key: {"$gt": ""}})
        assert answer.status_code == 422


T17 = [
    "Patient/..",
    "Patient/../metadata",
    "../metadata",
    "..%2fmetadata",
    "Patient/%2e%2e",
    "Patient/%2e%2e%2fmetadata",
    "Patient/%2E%2E/Patient",
    "Patient/..%5c..%5cetc",
    "Patient/..\\..\\etc",
    "Patient/a%00",
    "Patient/%00",
    "Patient/a%2fb",
    "Patient//a",
    "//Patient",
    "Patient/.",
    "Patient/%252e%252e",
    "Patient/%c0%ae%c0%ae",
    "Patient/%zz",
    "Patient/a%0d%0ax",
    "Binary/../../../etc/passwd",
]


@pytest.mark.parametrize("path", T17)
def test_t17_path_traversal(server: Server, path: str) -> None:
    status, body = raw(server, "GET", b"/fhir/" + path.encode())
    assert status in (400, 404), body
    assert b"OperationOutcome" in body and b"root:" not in body


@pytest.mark.parametrize("id_", [".", "..", "%2e%2e", "a%2fb"])
def test_t17_ids_of_writes(server: Server, id_: str) -> None:
    content = b'{"resourceType":"Patient","id":"' + id_.encode() + b'"}'
    status, _ = raw(server, "PUT", b"/fhir/Patient/" + id_.encode(), content)
    assert status == 400


def raw(server: Server, method: str, path: bytes, content: bytes = b"") -> tuple[int, bytes]:
    """A request whose path no client library has tidied."""
    answers: list[dict[str, object]] = []
    headers = [(b"host", b"127.0.0.1:8080"), (b"content-type", b"application/fhir+json")]
    path, _, query = path.partition(b"?")
    scope = {
        "type": "http",
        "method": method,
        "raw_path": path,
        "path": path.decode("latin-1"),
        "query_string": query,
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    server.run(server.app(scope, receive, send))  # type: ignore[arg-type]
    status, body = answers[0]["status"], answers[1]["body"]
    assert isinstance(status, int) and isinstance(body, bytes)
    return status, body


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "FOO"]),
    st.lists(
        st.sampled_from([b"Patient", b"a", b"_history", b"$x", b"metadata", b"%", b"..", b"\xff"])
        | st.binary(max_size=8),
        max_size=6,
    ),
    st.binary(max_size=40),
    st.binary(max_size=60),
)
def test_nothing_gives_a_5xx(
    server: Server, method: str, parts: list[bytes], query: bytes, content: bytes
) -> None:
    path = b"/fhir/" + b"/".join(part.replace(b"?", b"") for part in parts) + b"?" + query
    status, body = raw(server, method, path, content)
    assert status < 500 or status == 501, (status, body)


def test_an_unexpected_error_tells_nothing(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret-of-the-store")

    for name in ("run", "current"):
        monkeypatch.setattr(type(server.domain.store), name, broken)
    answer = server.get("Patient/a", headers={"x-request-id": "trace-1"})
    assert answer.status_code == 500
    assert issue(answer)["code"] == "exception"
    assert "secret" not in answer.text and "RuntimeError" not in answer.text
    assert answer.headers["x-request-id"] == "trace-1"
    logged = capsys.readouterr().out
    assert "trace-1" in logged and "RuntimeError" in logged and "secret" not in logged
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": "Patient/a"}}],
    }
    shown = server.post(BASE, batch)
    assert shown.status_code == 200 and "secret" not in shown.text
    assert shown.json()["entry"][0]["response"]["status"].startswith("500")


def test_a_large_body_is_parsed_beside_the_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small requests go on meanwhile; what is wrong with it is said all the same."""
    seen: list[bool] = []
    loads = bodies.json.loads

    def watched(data: bytes, limits: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return loads(data, limits)

    monkeypatch.setattr(bodies.json, "loads", watched)
    names = b",".join([b'{"family":"a"}'] * 20_000)
    for content, status in (
        (b'{"resourceType":"Patient","name":[%s]}' % names, 201),
        (b'{"resourceType":"Patient","name":[%s,]}' % names, 400),
        (b'{"resourceType":"Patient"}', 201),
    ):
        answer = server.send("POST", "Patient", content=content, headers=JSON)
        assert answer.status_code == status
    assert seen == [False, False, True]
