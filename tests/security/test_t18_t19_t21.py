"""T18 content that pretends, T19 heads that confuse, T21 nothing of the inside is shown."""

from __future__ import annotations

import re

import pytest

from fhir_server.http.routes import ROUTES
from tests.http.test_admission import head, hosted, outcome
from tests.serving import Server, issue

POLYGLOTS = {
    "HTML as image": ("image/png", b"<html><script>alert(1)</script>"),
    "HTML": ("text/html", b"<script>alert(1)</script>"),
    "SVG": ("image/svg+xml", b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>"),
    "PDF and HTML": ("application/pdf", b"%PDF-1.4\n<script>alert(1)</script>"),
}


@pytest.mark.parametrize("name", POLYGLOTS)
def test_t18_content_is_never_sniffed_or_run(server: Server, name: str) -> None:
    media, content = POLYGLOTS[name]
    made = server.send("POST", "Binary", content=content, headers={"content-type": media})
    assert made.status_code == 201, made.text
    place = made.headers["location"].partition("/fhir/")[2].partition("/_history")[0]
    answer = server.get(place, headers={"accept": media})
    assert answer.content == content and answer.headers["content-type"].startswith(media)
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy or "default-src 'none'" in policy
    if media != "application/pdf" and media != "image/png":
        assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("value", ["a\x1b[31mb", "=cmd|' /C calc'!A0", "a\u202eb"])
def test_t18_values_come_back_as_they_were(server: Server, value: str) -> None:
    body = {"resourceType": "Patient", "name": [{"text": value}]}
    answer = server.post("Patient", body)
    if answer.status_code == 201:
        assert answer.json()["name"][0]["text"] == value
    else:
        issue(answer)


RANGES = ["bytes=0-0", "bytes=0-,0-,0-,0-", "bytes=" + ",".join(["0-1"] * 1000), "bytes=-1", "x"]


@pytest.mark.parametrize("value", RANGES, ids=range(len(RANGES)))
def test_t19_ranges(server: Server, value: str) -> None:
    """Ranges are optional (RFC 9110 14.2): the whole content comes, once."""
    content = bytes(100_000)
    made = server.send("POST", "Binary", content=content, headers={"content-type": "image/png"})
    place = made.headers["location"].partition("/fhir/")[2].partition("/_history")[0]
    answer = server.get(place, headers={"accept": "image/png", "range": value})
    assert answer.status_code in (200, 206, 416) and len(answer.content) <= len(content)


BODY = b'{"resourceType":"Patient"}'
KIND = "Content-Type: application/fhir+json"
SMUGGLED = {
    "length and chunks": head(
        "POST", "/fhir/Patient", KIND, "Content-Length: 5", "Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\nGET /fhir/Patient HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two lengths": head("POST", "/fhir/Patient", KIND, "Content-Length: 26", "Content-Length: 3")
    + BODY,
    "negative length": head("POST", "/fhir/Patient", KIND, "Content-Length: -1") + BODY,
    "odd coding": head("POST", "/fhir/Patient", KIND, "Transfer-Encoding: xchunked") + BODY,
    "space before colon": head("GET", "/fhir/metadata", "X-A : b"),
    "bad chunk": head("POST", "/fhir/Patient", KIND, "Transfer-Encoding: chunked") + b"zz\r\n",
    "folded header": head("GET", "/fhir/metadata", "X-A: b", " c: d"),
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_t19_smuggling(name: str) -> None:
    """What two servers could read in two ways is refused, and the connection ends."""
    async with hosted() as host:
        wire = await host.send(SMUGGLED[name])
        answer = await wire.rest()
        assert answer.count(b"HTTP/1.1 ") <= 2 and b"200 OK" not in answer, answer
        if answer:
            outcome(answer[: _end(answer)], 400)


def _end(answer: bytes) -> int:
    """Where the first answer ends."""
    second = answer.find(b"HTTP/1.1 ", 1)
    return len(answer) if second < 0 else second


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: evil.example",),
        ("Host: localhost", "Host: evil.example"),
        ("Host: localhost, evil.example",),
        ("Host: localhost:80@evil.example",),
        (),
    ],
)
async def test_t19_hosts(lines: tuple[str, ...]) -> None:
    async with hosted() as host:
        text = "\r\n".join(("GET /fhir/metadata HTTP/1.1", *lines, "Connection: close", "", ""))
        outcome(await (await host.send(text.encode())).rest(), 400)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/fhir/metadata", "localhost", 400),
        ("http://localhost@evil.example/fhir/metadata", "localhost", 400),
        ("http://evil.example?/fhir/metadata", "localhost", 400),
        ("http://localhost/fhir/metadata", "evil.example", 200),
        ("http://localhost:8080/fhir/metadata", "localhost", 200),
    ],
)
async def test_t19_targets_that_are_whole_urls(target: str, host: str, status: int) -> None:
    """Their host counts, not the header's (RFC 9112 3.2.2)."""
    async with hosted() as host_:
        lines = (f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", "", "")
        answer = await (await host_.send("\r\n".join(lines).encode())).rest()
        if status == 400:
            outcome(answer, 400)
        else:
            assert answer.startswith(b"HTTP/1.1 200")


INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|sqlite|SELECT |line \d+, in|site-packages|0x[0-9a-f]{6}"
)
ODD = ["%00", "..", "$x", "_history/x", "a?_sort=x", "a?_x=1", "a?birthdate=zz", "a/b/c/d"]


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.pattern}")
def test_t21_no_route_shows_the_inside(server: Server, route: object) -> None:
    method, pattern = route.method, route.pattern  # type: ignore[attr-defined]
    url = pattern.replace("{type}", "Patient").replace("{operation}", "$nothing")
    url = re.sub(r"\{\w+\}", "x", url)
    headers = {"content-type": "application/fhir+json"}
    for content in (b"", b"{", b'{"resourceType":"Patient","id":[]}', b'{"resourceType":"x"}'):
        for odd in ("", *ODD):
            answer = server.send(method, f"{url}{odd}", content=content, headers=headers)
            assert answer.status_code < 500 or answer.status_code == 501, answer.text
            assert INSIDE.search(answer.text) is None, answer.text


def test_t21_nothing_for_developers_is_served(server: Server) -> None:
    for path in ("/openapi.json", "/redoc", "/debug", "/.env", "/.git/config", "/admin", "/docs/"):
        assert server.get(path).status_code in (404, 307), path
    docs = server.get("/docs").text
    assert all(f"/fhir/{route.pattern}" in docs for route in ROUTES)
