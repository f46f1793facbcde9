"""C61 to C63: what entries of a transaction say of each other."""

from __future__ import annotations

import pytest

from tests.interactions.transacting import PATIENT, URN, entry, located, observation, post, refused
from tests.serving import Json, Server


def key(shown: Json) -> str:
    location: str = shown["response"]["location"]
    return location.partition("/_history")[0]


OID = "urn:oid:1.2.3.4.5"


def test_c61_links_are_replaced(server: Server) -> None:
    linked = observation(
        URN,
        text={
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>'
            f'<a href="{URN}">who</a> <img src=\'{URN}\' alt="x"/> '
            f'<a href="http://other/1">other</a> {URN}</p></div>',
        },
        extension=[
            {"url": "http://x/uri", "valueUri": URN},
            {"url": "http://x/url", "valueUrl": URN},
            {"url": "http://x/canonical", "valueCanonical": URN},
            {"url": "http://x/string", "valueString": URN},
            {"url": "http://x/ref", "valueReference": {"reference": URN + "#part"}},
        ],
        performer=[{"reference": OID}, {"reference": "#inner"}],
        contained=[{"resourceType": "Practitioner", "id": "inner"}],
        hasMember=[{"reference": "Observation/elsewhere/_history/3"}],
        focus=[{"reference": f"{URN}/_history/5"}],
    )
    shown = post(
        server,
        entry("POST", "Observation", linked),
        entry("POST", "Patient", PATIENT, URN),
        entry("POST", "Practitioner", {"resourceType": "Practitioner"}, OID),
    )
    stored, patient, practitioner = located(server, shown[0]), key(shown[1]), key(shown[2])
    assert stored["subject"]["reference"] == patient
    assert [r["reference"] for r in stored["performer"]] == [practitioner, "#inner"]
    assert stored["hasMember"] == [{"reference": "Observation/elsewhere/_history/3"}]
    assert stored["focus"] == [{"reference": f"{patient}/_history/1"}]
    values = {e["url"].rpartition("/")[2]: e for e in stored["extension"]}
    assert values["uri"]["valueUri"] == values["url"]["valueUrl"] == patient
    assert values["canonical"]["valueCanonical"] == URN
    assert values["string"]["valueString"] == URN
    assert values["ref"]["valueReference"]["reference"] == patient + "#part"
    div = stored["text"]["div"]
    assert f'<a href="{patient}">' in div and f"<img src='{patient}'" in div
    assert '<a href="http://other/1">' in div and div.count(URN) == 1


@pytest.mark.parametrize("lost", [URN, OID, URN + "#part", URN + "/_history/2"])
def test_c61_a_link_to_no_entry_is_refused(server: Server, lost: str) -> None:
    for bad in (
        entry("POST", "Observation", observation(lost)),
        entry("PUT", "Observation/o", observation(lost) | {"id": "o"}),
        entry(
            "POST",
            "Observation",
            observation(
                "#p",
                contained=[
                    {
                        "resourceType": "Patient",
                        "id": "p",
                        "managingOrganization": {"reference": lost},
                    }
                ],
            ),
        ),
    ):
        status, first = refused(server, entry("POST", "Patient", PATIENT), bad)
        assert status == 422 and first["expression"] == ["Bundle.entry[1]"]
        assert lost in first["diagnostics"]
        batch = {"resourceType": "Bundle", "type": "batch", "entry": [bad]}
        [shown] = server.post("", batch).json()["entry"]
        assert shown["response"]["status"].startswith("422"), shown
        assert lost in shown["response"]["outcome"]["issue"][0]["diagnostics"]
    assert server.get("Observation").json()["total"] == 0


def test_c61_batch_entries_do_not_refer_to_each_other(server: Server) -> None:
    entries = [
        entry("POST", "Patient", PATIENT, URN),
        entry("POST", "Observation", observation(URN)),
    ]
    answer = server.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    status = [e["response"]["status"][:3] for e in answer.json()["entry"]]
    assert status == ["201", "422"]


def test_c61_circular(server: Server) -> None:
    other = "urn:uuid:00000000-0000-4000-8000-000000000002"
    first = PATIENT | {"link": [{"other": {"reference": other}, "type": "seealso"}]}
    second = PATIENT | {"link": [{"other": {"reference": URN}, "type": "seealso"}]}
    shown = post(
        server, entry("POST", "Patient", first, URN), entry("POST", "Patient", second, other)
    )
    assert located(server, shown[0])["link"][0]["other"]["reference"] == key(shown[1])
    assert located(server, shown[1])["link"][0]["other"]["reference"] == key(shown[0])


def test_c62_restful_full_urls(server: Server) -> None:
    shown = post(
        server,
        entry("POST", "Patient", PATIENT | {"id": "77"}, "http://lab.example/fhir/Patient/77"),
        entry(
            "POST",
            "Observation",
            observation("Patient/77", focus=[{"reference": "http://lab.example/fhir/Patient/77"}]),
            "http://lab.example/fhir/Observation/5",
        ),
        entry(
            "POST", "Observation", observation("Patient/77"), "http://other.example/Observation/5"
        ),
        entry("POST", "Observation", observation("Patient/77"), URN),
    )
    patient = key(shown[0])
    stored = located(server, shown[1])
    assert stored["subject"]["reference"] == patient
    assert stored["focus"][0]["reference"] == patient
    for elsewhere in shown[2:]:
        assert located(server, elsewhere)["subject"]["reference"] == "Patient/77"


def test_c63_conditional_references(server: Server) -> None:
    known = server.create(PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]})
    asked = entry("POST", "Observation", observation("Patient?identifier=urn:x|1"))
    [shown] = post(server, asked)
    assert located(server, shown)["subject"]["reference"] == f"Patient/{known['id']}"
    server.create(PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]})
    status, first = refused(server, asked)
    assert status == 412 and first["expression"] == ["Bundle.entry[0]"]
