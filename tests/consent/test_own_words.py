"""Words of an author from whom something is hidden: they come back, as by the twin, and tell nobody
more than their author knew.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhir_server.access.own_words import OWN_WORDS, REMEMBERED
from tests.consent.bricks import NARRATIVE, Json, observation, to
from tests.consent.worlds import Twin, comparable, twins
from tests.serving import BACKENDS

MASKED = (
    *("Observation/v3", "DiagnosticReport/v1", "DiagnosticReport/v5", "CarePlan/cp", "Condition/k"),
    *("Encounter/e2", "MedicationRequest/m", "List/l", "Composition/cc", "DocumentReference/dv"),
    *("Observation/v4", "Observation/v6", "Task/t", "Observation/o2", "Observation/v2"),
)


@pytest.fixture(scope="module", params=list(BACKENDS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Twin]]:
    with twins(request.param, tmp_path_factory.mktemp("words")) as both:
        yield both


def saying(words: str) -> Json:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{words}</div>'
    return {"status": "additional", "div": div}


def seen(twin: Twin, name: str) -> Json:
    found: Json = twin.server.get(name, headers=twin.doctor).json()
    return found


def written(pair: tuple[Twin, Twin], name: str, words: str, **more: Json) -> Json:
    """By D, of what D sees: answered as by the twin, and read so; what D reads then."""
    answers = [t.ask("PUT", name, {**seen(t, name), "text": saying(words), **more}) for t in pair]
    assert answers[0] == answers[1] and answers[0][0] == 200, answers
    for url in (
        *(name, f"{name}/_history", f"{name}?_summary=text", f"{name}?_format=xml"),
        f"{name.partition('/')[0]}?_text={words.split()[0]}",
    ):
        one, other = (twin.ask("GET", url) for twin in pair)
        assert one == other, url
    found = seen(pair[0], name)
    assert words in found["text"]["div"]
    return found


@pytest.mark.parametrize("name", MASKED)
def test_their_author_reads_them_again(pair: tuple[Twin, Twin], name: str) -> None:
    written(pair, name, "firstly I saw")
    found = written(pair, name, "secondly I saw")
    again = pair[0].ask("PUT", name, found)
    assert comparable(pair[0].server.get(name, headers=pair[0].doctor))[2] == again[2]
    assert seen(pair[0], name)["meta"]["versionId"] == found["meta"]["versionId"]
    whole = pair[0].server.get(name, headers=pair[0].system).json()
    assert "secondly" in whole["text"]["div"]


def test_what_they_name_is_not_told_by_their_going(pair: tuple[Twin, Twin]) -> None:
    for named in ("Condition/h2", "Condition/u9", "Observation/h1", "#c"):
        written(pair, "DiagnosticReport/v1", f"see {named} there")


def test_guessed_words_are_not_confirmed(pair: tuple[Twin, Twin]) -> None:
    name = "Observation/w3"
    pair[0].put(
        observation("w3", "718-7", 2, "03", hasMember=[to("Observation/h1")]) | {"text": NARRATIVE}
    )
    pair[1].put(observation("w3", "718-7", 2, "03"))
    answers = [twin.ask("PUT", name, {**seen(twin, name), "text": NARRATIVE}) for twin in pair]
    assert answers[0] == answers[1] and NARRATIVE["div"] in seen(pair[0], name)["text"]["div"]
    one, other = (twin.ask("GET", f"{name}/_history") for twin in pair)
    assert one == other
    one, other = (twin.ask("GET", f"{name}/_history/1") for twin in pair)
    assert one == other and "viral load" not in one[2]


def test_a_group_of_which_not_all_is_seen(pair: tuple[Twin, Twin]) -> None:
    found = written(pair, "Group/g", "ours", quantity=1)  # type: ignore[arg-type]
    assert found["quantity"] == 1 and len(found["member"]) == 1


def test_words_of_who_sees_more_stay_hidden(pair: tuple[Twin, Twin]) -> None:
    twin = pair[0]
    resource = observation("w1", "718-7", 2, "03", hasMember=[to("Observation/h1")])
    twin.put({**resource, "text": NARRATIVE})
    assert "text" not in seen(twin, "Observation/w1")
    body = {**seen(twin, "Observation/w1"), "text": saying("mine")}
    assert twin.ask("PUT", "Observation/w1", body)[0] == 200
    assert "mine" in seen(twin, "Observation/w1")["text"]["div"]
    # More is hidden than was when they were written: they may tell of that.
    whole = twin.server.get("Observation/w1", headers=twin.system).json()
    assert whole["hasMember"] == [to("Observation/h1")]
    twin.put({**whole, "focus": [to("Condition/h2")]})
    assert "text" not in seen(twin, "Observation/w1")
    # Others' words about the same are others' words.
    twin.put({**whole, "text": NARRATIVE})
    assert "text" not in seen(twin, "Observation/w1")
    twin.put(whole)
    assert "mine" in seen(twin, "Observation/w1")["text"]["div"]


def test_few_are_remembered_and_none_of_what_is_erased(pair: tuple[Twin, Twin]) -> None:
    twin = pair[0]
    twin.put(observation("w2", "718-7", 2, "03", hasMember=[to("Observation/h1")]))
    for number in range(REMEMBERED + 3):
        body = {**seen(twin, "Observation/w2"), "text": saying(f"n{number}")}
        assert twin.ask("PUT", "Observation/w2", body)[0] == 200
    ledger = twin.server.domain.engine.store.ledger
    row = twin.server.run(ledger.get(OWN_WORDS, "Observation/w2"))
    assert row is not None and len(row.value["said"]) == REMEMBERED
    assert f"n{REMEMBERED + 2}" in seen(twin, "Observation/w2")["text"]["div"]
    twin.server.delete("Observation/w2", headers=twin.system)
    right = twin.server.bearer("system/*.cruds __expunge")
    body = {"parameter": [{"name": "expungeDeletedResources", "valueBoolean": True}]}
    body |= {"resourceType": "Parameters"}
    erased = twin.server.post("Observation/w2/$expunge", body, headers=right)
    assert erased.status_code == 200, erased.text
    assert twin.server.run(ledger.get(OWN_WORDS, "Observation/w2")) is None
