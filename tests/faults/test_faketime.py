"""R21 with the clock of the whole process changed (libfaketime): backwards, ahead, over the end
of 32-bit time.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import httpx
import pytest

from fhir_server.app import opened
from fhir_server.config import Settings
from tests.faults.running import running

pytestmark = pytest.mark.slow

CLOCKS = ("", "-1h", "@2038-01-19 03:14:06", "")
JSON = {"content-type": "application/fhir+json"}


def library() -> str:
    places = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")
    found = [str(path) for place in places for path in Path("/").glob(place.lstrip("/"))]
    if not found:
        pytest.skip("there is no libfaketime here (Debian: faketime)")
    return found[0]


def clock(text: str) -> dict[str, str]:
    if not text:
        return {}
    return {"LD_PRELOAD": library(), "FAKETIME": text, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_r21_a_server_whose_clock_jumps(tmp_path: Path) -> None:
    library()
    data, times = tmp_path / "d", []
    link, first = "", set[str]()
    for number, text in enumerate(CLOCKS):
        with running(data, "--open", **clock(text)) as server:
            body = {"resourceType": "Basic", "id": "a", "code": {"text": str(number)}}
            put = httpx.put(f"{server.base}/Basic/a", json=body, headers=JSON)
            assert put.status_code in (200, 201), put.text
            times.append(put.json()["meta"]["lastUpdated"])
            for _ in range(2):
                assert httpx.post(f"{server.base}/Basic", json=BASIC, headers=JSON).is_success
            page = httpx.get(f"{server.base}/Basic?_count=2&_sort=_lastUpdated").json()
            assert page["total"] == 3 + 2 * number and len(page["entry"]) == 2
            if link:
                again = httpx.get(server.base + link.partition("/fhir")[2])
                rest = {entry["resource"]["id"] for entry in again.json()["entry"]}
                assert again.status_code == 200 and rest and not rest & first - {"a"}
            first = {entry["resource"]["id"] for entry in page["entry"]}
            link = next((x["url"] for x in page["link"] if x["relation"] == "next"), link)
            history = httpx.get(f"{server.base}/Basic/a/_history").json()
            shown = [entry["resource"]["meta"]["lastUpdated"] for entry in history["entry"]]
            assert shown == times[::-1]
    assert all(a < b for a, b in itertools.pairwise(times)), times
    assert times[2] > "2038-01-19"


BASIC = {"resourceType": "Basic", "code": {"text": "x"}}


def test_r21_tokens(tmp_path: Path) -> None:
    """What ends in half an hour has ended for a clock that is an hour ahead."""
    library()
    data = tmp_path / "d"

    async def issue() -> str:
        async with opened(Settings(data=data)) as domain:
            return await domain.tokens.issue(scope="system/*.cruds", minutes=30, client="test")

    headers = {"authorization": f"Bearer {asyncio.run(issue())}"}
    for text, status in (("", 200), ("+1h", 401)):
        with running(data, **clock(text)) as server:
            assert httpx.get(f"{server.base}/Patient", headers=headers).status_code == status
