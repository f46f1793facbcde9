"""Limits of one query: each answers 400 ``too-costly`` and says which it was (case 33)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import BACKENDS, Server, issue, served

LIMITS = {"max_values": 3, "max_chain": 2, "max_includes": 2}
CHAIN = "subject:Patient.link:Patient"


@pytest.fixture(scope="module", params=list(BACKENDS))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with served(request.param, tmp_path_factory.mktemp("limits"), **LIMITS) as server:
        yield server


@pytest.mark.parametrize(
    ("within", "beyond", "named"),
    [
        ("Patient?_id=a,b,c", "Patient?_id=a,b,c,d", "VEHR_MAX_VALUES"),
        ("Patient?gender:not=a,b,c", "Patient?gender:not=a,b,c,d", "VEHR_MAX_VALUES"),
        ("Patient?name=" + "a,a,a", "Patient?name=a,a,a,a", "VEHR_MAX_VALUES"),
        (f"Observation?{CHAIN}.name=a", f"Observation?{CHAIN}.link:Patient.name=a",
         "VEHR_MAX_CHAIN"),
        ("Patient?_has:Patient:link:_has:Patient:link:name=a",
         "Patient?_has:Patient:link:_has:Patient:link:_has:Patient:link:name=a",
         "VEHR_MAX_CHAIN"),
        ("Patient?_include=Patient:link&_revinclude=Patient:link",
         "Patient?_include=Patient:link&_revinclude=Patient:link&_include=Patient:organization",
         "VEHR_MAX_INCLUDES"),
        ("Patient?_include=*&_revinclude=*", "Patient?" + "&".join(
            ["_include=Patient:link"] * 3), "VEHR_MAX_INCLUDES"),
        ("Patient?_sort=name,birthdate", "Patient?_sort=" + ",".join(["name"] * 9), "_sort"),
        ("Patient?" + "&".join(["name=a"] * 99), "Patient?" + "&".join(["name=a"] * 101), "100"),
    ],
)  # fmt: skip
def test_c33_limits_are_named(server: Server, within: str, beyond: str, named: str) -> None:
    assert server.get(within).status_code == 200
    answer = server.get(beyond)
    assert answer.status_code == 400
    found = issue(answer)
    assert found["code"] == "too-costly" and named in found["diagnostics"]
