"""A revocation acts on what is being streamed (L23, L30): rows of a view, an exported file, the
content of a Binary, and whatever a token, or an act, does not stand for any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.access import lasting
from fhir_server.access.break_glass import KIND
from fhir_server.http.respond import Message, Receive, Scope, Send
from fhir_server.model.problem import NotFound, Unauthorized
from operations import view_run
from operations.bulk import delivery
from operations.views import source
from tests.consent.bricks import Json, consent, observation, to
from tests.consent.test_revoking import ASYNC, finished
from tests.consent.worlds import Twin
from tests.serving import BACKENDS, BASE, Server, served

MANY = 40
VIEW: Json = {
    "resourceType": "ViewDefinition",
    "resource": "Observation",
    "select": [{"column": [{"name": "whose", "path": "subject.reference"}]}],
}
RUN: Json = {
    "resourceType": "Parameters",
    "parameter": [{"name": "viewResource", "resource": VIEW}],
}
CONTENT = b"x" * (3 << 20)
BREAK = {"x-purpose-of-use": "BTG", "x-break-glass-reason": "unconscious"}


class Ward(Twin):
    """D treats P1 and P2, of whom there are many observations, P2's the older ones."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.system = server.bearer("system/*.cruds")
        for id_ in ("p1", "p2"):
            self.put({"resourceType": "Patient", "id": id_})
        self.put({"resourceType": "Practitioner", "id": "d"})
        for number in range(MANY):
            self.put(observation(f"n{number}", "2093-3", number, "02"))
            self.put(observation(f"o{number}", "2093-3", number, "01", subject=to("Patient/p2")))
        self.put(observation("n", "2093-3", 1, "02", note=[{"text": "a note"}]))
        server.user("d", "family-doctor", "Practitioner/d")
        for patient in ("p1", "p2"):
            server.relation("d", patient)
        self.doctor = server.bearer("user/*.cruds", user="d")
        raw = {"content-type": "text/plain", "x-security-context": "Observation/n"}
        whole = {"headers": self.system | raw, "content": CONTENT}
        made = server.send("POST", "Binary", **whole)
        assert made.status_code == 201, made.text
        self.binary = made.headers["location"].partition("/_history")[0]
        self.told = "", ""

    def table(self) -> str:
        """The URL of a view that was exported."""
        asked = {"name": "view", "part": RUN["parameter"]}
        body = RUN | {"parameter": [asked, {"name": "_format", "valueCode": "ndjson"}]}
        headers = self.doctor | ASYNC
        answer = self.server.post("ViewDefinition/$export", body, headers=headers)
        assert answer.status_code == 202, answer.text
        said = finished(self, str(answer.headers["content-location"])).json()["parameter"]
        [part] = [one["part"] for one in said if one["name"] == "output"]
        return next(str(one["valueUri"]) for one in part if one["name"] == "location")


@pytest.fixture(params=list(BACKENDS))
def ward(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ward]:
    """What is streamed comes in small pieces, and is judged again before each."""
    for module in (lasting, delivery, source, view_run):
        monkeypatch.setattr(module, "FRESH", 0)
    monkeypatch.setattr(view_run, "WHOLE", 100)
    monkeypatch.setattr(source, "TURN", 5)
    with served(request.param, tmp_path, open_=False) as server:
        yield Ward(server)


Act = Callable[[], Awaitable[object]]


def streamed(ward: Ward, act: Act, method: str, url: str, **options: Any) -> tuple[str, str]:
    """What was sent before and after ``act``, which happens after the first piece."""
    pieces: list[bytes] = []

    async def through(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            await send(message)
            if message.get("body"):
                pieces.append(message["body"])
                if len(pieces) == 1:
                    await act()

        await ward.server.app(scope, receive, watched)

    async def sent() -> None:
        transport = httpx.ASGITransport(through)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            await client.request(method, url, **options)

    try:
        ward.server.run(sent())
    finally:
        ward.told = pieces[0].decode(), b"".join(pieces[1:]).decode()
    return ward.told


def deny(ward: Ward) -> Act:
    """P1 denies everything."""

    async def act() -> None:
        transport = httpx.ASGITransport(ward.server.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            told = consent(provision={"type": "deny"})
            put = await client.put(f"{BASE}/Consent/c1", json=told, headers=ward.system)
            assert put.status_code in (200, 201), put.text

    return act


async def nothing() -> None:
    """Nobody decides anything."""


@pytest.mark.parametrize("kind", ["ndjson", "csv", "json"])
def test_l30_rows_of_a_view_obey_the_new_rule(ward: Ward, kind: str) -> None:
    asked = {"json": RUN, "headers": ward.doctor}
    url = f"{BASE}/ViewDefinition/$run?_format={kind}"
    before, after = streamed(ward, nothing, "POST", url, **asked)
    assert (before + after).count("Patient/p1") == MANY + 1, "who permits is there"
    before, after = streamed(ward, deny(ward), "POST", url, **asked)
    assert 0 < before.count("Patient/p1") < MANY and "Patient/p1" not in after
    assert after.count("Patient/p2") == MANY, "others are not concerned"


def test_l30_an_exported_table_too(ward: Ward) -> None:
    place = ward.table()
    before, after = streamed(ward, deny(ward), "GET", place, headers=ward.doctor)
    assert "Patient/p1" in before and "Patient/p1" not in after
    assert after.count("Patient/p2") == MANY


def test_l41_a_content_ends_with_the_permission(ward: Ward) -> None:
    asked = {"headers": ward.doctor}
    before, after = streamed(ward, nothing, "GET", ward.binary, **asked)
    assert before + after == CONTENT.decode()
    for accept in ("text/plain", "application/fhir+json"):
        with pytest.raises(NotFound):
            streamed(
                ward, deny(ward), "GET", ward.binary, headers={**ward.doctor, "accept": accept}
            )
        assert len(ward.told[1]) == 0
        ward.put(consent())


@pytest.mark.parametrize("whose", ["doctor", "system"])
def test_l65_a_stream_ends_with_its_token(ward: Ward, whose: str) -> None:
    headers: dict[str, str] = getattr(ward, whose)

    async def revoke() -> None:
        assert await ward.server.domain.tokens.revoke(headers["authorization"].partition(" ")[2])

    with pytest.raises(Unauthorized):
        streamed(ward, revoke, "GET", ward.binary, headers=headers)
    assert not ward.told[1]


def test_a_token_that_runs_out_takes_nothing_from_who_sees_all(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = ward.server.domain.identities.records
    later = records.now() + 3600

    async def wait() -> None:
        monkeypatch.setattr(records, "now", lambda: later)

    before, after = streamed(ward, wait, "GET", ward.binary, headers=ward.system)
    assert before + after == CONTENT.decode()


def test_l64_what_is_read_through_the_broken_glass_ends_with_the_act(ward: Ward) -> None:
    ward.server.run(deny(ward)())
    headers = ward.doctor | BREAK
    opened = ward.server.get("Observation?patient=p1", headers=headers)
    assert opened.status_code == 200 and opened.json()["entry"]
    before, after = streamed(ward, nothing, "GET", ward.binary, headers=headers)
    assert before + after == CONTENT.decode()
    ledger = ward.server.domain.engine.store.ledger

    async def end() -> None:
        row = await ledger.get(KIND, "d/p1")
        assert row is not None
        ended = row.value | {"until": 1}
        assert await ledger.cas(KIND, row.key, ended, row.revision)

    with pytest.raises(Unauthorized):
        streamed(ward, end, "GET", ward.binary, headers=headers)
