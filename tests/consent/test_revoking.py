"""A revocation acts on what is under way: on paging (L23), on jobs (L30), and on the next request
(L65).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.consent.worlds import Json, Twin, consent, twins
from tests.serving import BACKENDS

ASYNC = {"prefer": "respond-async"}


@pytest.fixture(params=list(BACKENDS))
def twin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Twin]:
    with twins(request.param, tmp_path) as (whole, _):
        yield whole


def get(twin: Twin, url: str, **headers: str) -> httpx.Response:
    return twin.server.get(url, headers={**twin.doctor, **headers})


def following(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return next(link["url"] for link in answer.json()["link"] if link["relation"] == "next")


def deny(twin: Twin, **more: Any) -> None:
    """P1 denies everything to everybody."""
    twin.put(consent(provision={"type": "deny"}, **more))


def patients(answer: httpx.Response) -> set[str]:
    return {entry["resource"]["subject"]["reference"] for entry in answer.json().get("entry", ())}


def test_l23_the_second_page_obeys_the_new_rule(twin: Twin) -> None:
    first = get(twin, "Observation?_count=1&_sort=date")
    assert patients(first) == {"Patient/p2"}
    second = get(twin, following(first))
    assert patients(second) == {"Patient/p1"}
    deny(twin)
    again = get(twin, following(first))
    assert again.status_code == 200 and "Patient/p1" not in again.text
    after = get(twin, following(second))
    assert after.status_code == 200 and "Patient/p1" not in after.text


def test_l23_and_so_does_everything(twin: Twin) -> None:
    first = get(twin, "Patient/p1/$everything?_count=2")
    place = following(first)
    deny(twin)
    answer = get(twin, place)
    assert "Observation/" not in answer.text and answer.status_code in (200, 404), answer.text


def started(twin: Twin, url: str) -> str:
    answer = get(twin, url, **ASYNC)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["content-location"])


def finished(twin: Twin, place: str) -> httpx.Response:
    """The first answer that is none of a job under way."""
    for _ in range(100):
        twin.server.run(asyncio.sleep(0.1))
        answer = get(twin, place)
        if answer.status_code not in (202, 429):
            return answer
    raise AssertionError(answer.text)


def test_l30_a_result_is_not_shown_after_the_revocation(twin: Twin) -> None:
    place = started(twin, "Observation?patient=p1")
    assert "Observation/v2" in finished(twin, place).text
    deny(twin)
    answer = get(twin, place)
    assert answer.status_code == 410 and "Observation" not in answer.text, answer.text
    fresh = finished(twin, started(twin, "Observation?patient=p1"))
    assert fresh.status_code == 200 and "Observation/v2" not in fresh.text


def test_l30_nor_what_was_asked_for_before_and_ran_after(twin: Twin) -> None:
    place = started(twin, "Observation?patient=p1")
    deny(twin)
    answer = finished(twin, place)
    assert "Observation/v2" not in answer.text, answer.text


def test_l30_what_others_decide_does_not_matter(twin: Twin) -> None:
    place = started(twin, "Observation?patient=p1")
    assert "Observation/v2" in finished(twin, place).text
    twin.put({"resourceType": "Patient", "id": "p9"})
    twin.put(consent("c9", patient={"reference": "Patient/p9"}, provision={"type": "deny"}))
    assert "Observation/v2" in get(twin, place).text


def test_l65_relation_consent_and_period_act_on_the_next_request(twin: Twin) -> None:
    server = twin.server
    assert get(twin, "Observation/v2").status_code == 200
    deny(twin)
    assert get(twin, "Observation/v2").status_code == 404
    twin.put(consent())
    assert get(twin, "Observation/v2").status_code == 200
    permit: Json = {"type": "permit", "period": {"end": "2020-01-01"}}
    twin.put(consent(provision=permit))
    assert get(twin, "Observation/v2").status_code == 200, "implicitly"
    server.run(server.domain.identities.relations.end("d", "p1"))
    assert get(twin, "Observation/v2").status_code == 404
    assert get(twin, "Observation?patient=p1").json()["total"] == 0
