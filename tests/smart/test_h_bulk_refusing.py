"""Bulk exports and patients who refuse them, then or later."""

from __future__ import annotations

import json

import pytest

from operations.bulk import delivery
from tests.consent import plain
from tests.serving import Json, Server, issue
from tests.smart.bulk import (
    ASYNC,
    RESEARCH,
    SCOPE,
    consent,
    device,
    exported,
    gone,
    ids,
    kicked,
    lines,
    manifest,
    put,
    started,
)


def test_l29_who_refuses_is_not_there(bulk: Server) -> None:
    put(bulk, consent("a", "deny"), consent("b", "permit"), device("da", "a"), device("d", ""))
    assert exported(bulk, "$export?_type=Device", **RESEARCH) == {"Device/d"}
    expected = {"Patient/b", "Observation/b1", "Observation/b2"}
    made = manifest(bulk, started(kicked(bulk, **RESEARCH)))
    assert ids(bulk, made) == expected and "error" in made and made["error"] == []
    assert not any("count" in item for item in made["output"])
    assert b"Patient/a" not in json.dumps(made).encode()
    assert "Patient/a" not in exported(bulk, "Patient/$export", **RESEARCH)
    assert "Patient/a" in exported(bulk, "Group/g/$export")
    for named in ("a", "unknown"):
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": "patient", "valueReference": {"reference": f"Patient/{named}"}}],
        }
        headers = ASYNC | bulk.bearer(SCOPE) | RESEARCH
        answer = bulk.post("Group/g/$export", body, headers=headers)
        said = issue(answer)["diagnostics"]
        assert (answer.status_code, said.replace(f"/{named} ", "/X ")) == (
            400,
            "patient: Patient/X is not part of this export",
        )


@pytest.mark.parametrize("query", ["", "&_elements=Observation.subject"])
def test_l30_a_download_under_way_obeys_the_refusal(
    bulk: Server, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """What has not left when a patient refuses does not leave any more."""
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    url = f"Patient/$export?_type=Observation{query}"
    made = manifest(bulk, started(kicked(bulk, url, **RESEARCH)))
    [place] = [item["url"] for item in made["output"]]
    monkeypatch.setattr(delivery, "PAGE", 1)
    system = bulk.bearer("system/*.cruds") | {"content-type": "application/fhir+json"}
    seen: list[str] = []

    async def reading(part: bytes) -> None:
        """Who is in the first part refuses."""
        seen.extend(json.loads(line)["subject"]["reference"] for line in part.splitlines())
        if len(seen) == 1:
            refused = seen[0].partition("/")[2]
            refusal = json.dumps(consent(refused, "deny")).encode()
            url = f"Consent/of-{refused}"
            assert (await plain.answered(bulk, "PUT", url, system, refusal)).status_code == 200

    answer = bulk.run(plain.answered(bulk, "GET", place, bulk.bearer(SCOPE), reading=reading))
    assert answer.status_code == 200
    first, other = seen[0], {"Patient/a": "Patient/b", "Patient/b": "Patient/a"}[seen[0]]
    assert seen == [first, other, other]
    row = bulk.get(place, headers=bulk.bearer(SCOPE)).text
    assert f'"{other}"' in row and f'"{first}"' not in row


def test_l30_who_refuses_later_is_not_there_any_more(bulk: Server) -> None:
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    url = started(kicked(bulk, **RESEARCH))
    made = manifest(bulk, url)
    assert {"Patient/a", "Observation/a1", "Patient/b"} <= ids(bulk, made)
    put(bulk, consent("a", "deny"))
    left = {"Patient/b", "Observation/b1", "Observation/b2"}
    assert ids_of(bulk, made) == left
    assert ids(bulk, manifest(bulk, url)) == left
    put(bulk, consent("b", "deny"))
    assert manifest(bulk, url)["output"] == [] and ids_of(bulk, made) == set()


def ids_of(server: Server, made: Json) -> set[str]:
    rows = [row for item in made["output"] for row in lines(server, item["url"])]
    return {f"{row['resourceType']}/{row['id']}" for row in rows}


def test_l31_deletions_of_what_was_hidden(bulk: Server) -> None:
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    since = manifest(bulk, started(kicked(bulk)))["transactionTime"]
    headers = bulk.bearer("system/*.cruds")
    for id_ in ("a1", "b1"):
        assert bulk.delete(f"Observation/{id_}", headers=headers).status_code == 204
    url = f"Group/g/$export?_since={since}&_type=Observation"
    place = started(kicked(bulk, url, **RESEARCH))
    before = manifest(bulk, place)
    assert gone(bulk, before) == {"Observation/a1", "Observation/b1"}
    put(bulk, consent("a", "deny"))
    assert gone(bulk, before) == gone(bulk, manifest(bulk, place)) == {"Observation/b1"}
    assert gone(bulk, manifest(bulk, started(kicked(bulk, url, **RESEARCH)))) == {"Observation/b1"}
    assert gone(bulk, manifest(bulk, started(kicked(bulk, url)))) == {
        "Observation/a1",
        "Observation/b1",
    }
