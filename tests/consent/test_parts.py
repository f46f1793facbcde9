"""Items of lists that D sees in part, written over by D: answered as by the twin, and what D could
not see is kept (ruling: writes work on the masked view, masked parts are kept).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from tests.consent.worlds import SNOMED, Json, Twin, coded, to, twins
from tests.serving import BACKENDS

NUMBERS = count(1)
HIDDEN, SEEN = to("Observation/h1"), to("Observation/v2")


@pytest.fixture(scope="module", params=list(BACKENDS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Twin]]:
    with twins(request.param, tmp_path_factory.mktemp("parts")) as both:
        yield both


def sign(name: str, *details: Json) -> Json:
    """Evidence of a Condition; code and detail are both optional."""
    return {"code": [{"text": name}], **({"detail": [*details]} if details else {})}


FIRST, SECOND = sign("a", HIDDEN, SEEN), sign("b", HIDDEN)
WHOLE = (FIRST, SECOND, sign("c"))
ALONE = {"detail": [HIDDEN]}
"""Of an item that D has removed."""


def stored(pair: tuple[Twin, Twin]) -> str:
    """A Condition that has such evidence, in both worlds; its name."""
    id_ = f"parts-{next(NUMBERS)}"
    made = {
        "resourceType": "Condition",
        "id": id_,
        "code": coded(SNOMED, "38341003"),
        "subject": to("Patient/p1"),
    }
    pair[0].put({**made, "evidence": [*WHOLE]})
    pair[1].put({**made, "evidence": [sign("a", SEEN), sign("b"), sign("c")]})
    return f"Condition/{id_}"


def put(twin: Twin, name: str, edit: Callable[[list[Json]], list[Json]]) -> Any:
    seen = twin.server.get(name, headers=twin.doctor).json()
    return twin.ask("PUT", name, {**seen, "evidence": edit(seen["evidence"])})


def transact(twin: Twin, name: str, edit: Callable[[list[Json]], list[Json]]) -> Any:
    seen = twin.server.get(name, headers=twin.doctor).json()
    entry = {
        "request": {"method": "PUT", "url": name},
        "resource": {**seen, "evidence": edit(seen["evidence"])},
    }
    return twin.ask("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})


def patch(twin: Twin, name: str, edit: Callable[[list[Json]], list[Json]]) -> Any:
    seen = twin.server.get(name, headers=twin.doctor).json()
    steps = [{"op": "replace", "path": "/evidence", "value": edit(seen["evidence"])}]
    kind = {"content-type": "application/json-patch+json"}
    return twin.ask("PATCH", name, steps, **kind)


def told(item: Json, name: str) -> Json:
    return {**item, "code": [{"text": name}]}


EDITS: dict[str, tuple[Callable[[list[Json]], list[Json]], list[Json]]] = {
    "changed": (lambda s: [told(s[0], "z"), *s[1:]], [told(FIRST, "z"), *WHOLE[1:]]),
    "reordered": (lambda s: s[::-1], [*WHOLE[::-1]]),
    "removed": (lambda s: [s[0], s[2]], [FIRST, ALONE, WHOLE[2]]),
    "inserted before": (lambda s: [sign("n"), *s], [sign("n"), *WHOLE]),
    "doubled": (lambda s: [s[0], *s], [FIRST, sign("a", SEEN), *WHOLE[1:]]),
    "added to": (
        lambda s: [sign("a", SEEN, to("Observation/v3")), *s[1:]],
        [sign("a", HIDDEN, SEEN, to("Observation/v3")), *WHOLE[1:]],
    ),
}


@pytest.mark.parametrize("way", [put, patch, transact])
@pytest.mark.parametrize("edit", EDITS)
def test_an_item_seen_in_part(pair: tuple[Twin, Twin], edit: str, way: Callable[..., Any]) -> None:
    name = stored(pair)
    answers = [way(twin, name, EDITS[edit][0]) for twin in pair]
    assert answers[0] == answers[1] and answers[0][0] == 200, answers
    for url in (name, f"{name}/_history"):
        one, other = (twin.ask("GET", url) for twin in pair)
        assert one == other
    whole = pair[0].server.get(name, headers=pair[0].system).json()
    assert whole["evidence"] == EDITS[edit][1]


def test_a_patch_of_one_member_of_an_item(pair: tuple[Twin, Twin]) -> None:
    name = stored(pair)
    steps = [
        {"op": "add", "path": "/evidence/0", "value": sign("n")},
        {"op": "replace", "path": "/evidence/2/code/0/text", "value": "z"},
    ]
    kind = {"content-type": "application/json-patch+json"}
    answers = [twin.ask("PATCH", name, steps, **kind) for twin in pair]
    assert answers[0] == answers[1] and answers[0][0] == 200, answers
    whole = pair[0].server.get(name, headers=pair[0].system).json()
    assert whole["evidence"] == [sign("n"), FIRST, told(SECOND, "z"), WHOLE[2]]
