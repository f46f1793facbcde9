"""The edge: hosts, origins, security headers, request ids; what --open adds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.serving import BASE, Server, issue, served


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST:1", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost@evil.example", 400),
        ("", 400),
    ],
)
def test_host_is_pinned(server: Server, host: str, status: int) -> None:
    for url in ("metadata", "/health"):
        answer = server.get(url, headers={"host": host})
        assert answer.status_code == status
        if status == 400:
            issue(answer)


def test_urls_come_from_the_setting(server: Server) -> None:
    spoofed = {"host": "localhost:9", "x-forwarded-host": "evil.example", "forwarded": "host=evil"}
    made = server.post("Patient", {"resourceType": "Patient"}, headers=spoofed)
    assert made.headers["location"].startswith(f"{BASE}/Patient/")
    found = server.get("Patient", headers=spoofed).json()
    assert found["link"][0]["url"].startswith(BASE)


@pytest.mark.parametrize("url", ["metadata", "Patient/none", "/health", "/nothing", "/docs"])
def test_security_headers_everywhere(server: Server, url: str) -> None:
    headers = server.get(url).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-request-id"]
    assert "server" not in headers


def test_request_id(server: Server) -> None:
    assert server.get("metadata", headers={"x-request-id": "a-1"}).headers["x-request-id"] == "a-1"
    bad = server.get("metadata", headers={"x-request-id": "a b\x7f"}).headers["x-request-id"]
    assert bad != "a b\x7f"


def test_cors_with_tokens(secured: Server) -> None:
    origin = {"origin": "https://app.example"}
    answer = secured.get("metadata", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    exposed = answer.headers["access-control-expose-headers"]
    for name in ("Location", "Content-Location", "ETag", "Last-Modified"):
        assert name in exposed
    asked = origin | {
        "access-control-request-method": "PUT",
        "access-control-request-headers": "authorization",
    }
    preflight = secured.send("OPTIONS", "Patient/a", headers=asked)
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    denied = secured.get("Patient/a", headers=origin)
    assert denied.status_code == 401 and "access-control-allow-origin" not in denied.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("https://app.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
    ],
)
def test_open_is_for_this_machine(server: Server, origin: str, status: int) -> None:
    answer = server.get("metadata", headers={"origin": origin})
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (origin if status == 200 else None)


def test_pages(server: Server) -> None:
    assert server.get("/health").text == "ready\n"
    server.get("metadata")
    metrics = server.get("/metrics").text
    assert 'vehr_requests_total{interaction="capabilities",status="200"} 1.0' in metrics
    docs = server.get("/docs").text
    assert "VEHR_BASE_URL" in docs and "/fhir/{type}/{id}" in docs and "<script" not in docs


@pytest.mark.parametrize("backend", ["memory"])
def test_a_request_that_takes_too_long(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path, request_seconds=1) as server:

        async def stuck(*_: object) -> None:
            await asyncio.sleep(60)

        run = server.domain.store.run
        server.domain.store.run = stuck  # type: ignore[method-assign, assignment]
        answer = server.get("Patient")
        assert answer.status_code == 503 and issue(answer)["code"] == "timeout"
        server.domain.store.run = run  # type: ignore[method-assign]
        assert server.get("Patient").status_code == 200


@pytest.mark.parametrize("url", ["/health", "/metrics", "/docs", "/docs/openapi.json"])
def test_pages_are_only_read(server: Server, url: str) -> None:
    answer = server.send("POST", url)
    assert answer.status_code == 405 and "GET" in answer.headers["allow"]
    assert issue(answer)["code"] == "not-supported"
    assert server.send("HEAD", url).status_code == server.send("GET", url).status_code
