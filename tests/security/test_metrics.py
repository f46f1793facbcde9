"""Who may read /metrics."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.serving import Server, issue, served

TOKEN = "0123456789abcdef"


def ask(server: Server, peer: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(server.app, client=(peer, 1))  # type: ignore[arg-type]

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get("http://127.0.0.1:8080/metrics", headers=headers)

    return server.run(asked())


@pytest.mark.parametrize("open_", [True, False])
def test_without_a_token_only_this_machine(tmp_path: Path, open_: bool) -> None:
    with served("memory", tmp_path, open_=open_) as server:
        for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            assert ask(server, peer).status_code == 200
        for peer in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "", "1270.0.0.1"):
            answer = ask(server, peer)
            assert answer.status_code == 403 and issue(answer)["code"] == "forbidden"
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            assert ask(server, "127.0.0.1", **{name: "127.0.0.1"}).status_code == 403


def test_with_a_token_only_by_it(tmp_path: Path) -> None:
    with served("memory", tmp_path, metrics_token=TOKEN) as server:
        for given in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}):
            answer = ask(server, "127.0.0.1", **given)
            assert answer.status_code == 401 and issue(answer)["code"] == "login"
            assert answer.headers["www-authenticate"] == "Bearer"
        known = {"authorization": f"Bearer {TOKEN}"}
        assert ask(server, "10.0.0.1", **known).status_code == 200


def test_labels_are_names_of_ours(tmp_path: Path) -> None:
    """Types, ids, parameters and paths of clients never become labels."""
    with served("memory", tmp_path) as server:
        for url in ("Patient/canary", "Patient?name=canary", "canary", "canary/$canary", "$canary"):
            server.get(url)
        server.get("/canary")
        server.send("CANARY", "Patient")
        text = ask(server, "127.0.0.1").text
        assert 'interaction="read",status="404"' in text
        assert "canary" not in text.lower() and "Patient" not in text
