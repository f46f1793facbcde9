"""What the statement claims to instantiate, held against every SHALL of US Core 6.1."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fhir_server.definitions.packages import read_package
from fhir_server.interactions.instantiates import fulfilled, lacking
from tests.operations.test_validate import install, package
from tests.serving import Server, served

Json = dict[str, Any]
GUIDE = "hl7.fhir.us.core-6.1.0.tgz"
US_CORE = "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server"
BULK = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
EXPECTATION = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation"
KEYS = {"interaction": "code", "searchParam": "name", "operation": "definition"}


class Demand(NamedTuple):
    """``type`` "": of the whole statement. ``of``: the element, ``value`` what it is to hold."""

    type: str
    of: str
    value: str


def shall(element: Json | None) -> bool:
    told = (element or {}).get("extension", [])
    return {"url": EXPECTATION, "valueCode": "SHALL"} in told


def demands(statement: Json) -> Iterator[Demand]:
    """Every SHALL of a statement that is not one of a type that only SHOULD be there."""
    for value, beside in zip(statement["format"], statement["_format"], strict=True):
        if shall(beside):
            yield Demand("", "format", value)
    for row in statement["rest"][0]["resource"]:
        if not shall(row):
            continue
        for name, key in KEYS.items():
            yield from (Demand(row["type"], name, r[key]) for r in row.get(name, []) if shall(r))
        for name in ("supportedProfile", "searchInclude", "searchRevInclude"):
            pairs = zip(row.get(name, []), row.get(f"_{name}", []), strict=True)
            yield from (Demand(row["type"], name, value) for value, told in pairs if shall(told))
        for part in row["extension"]:
            if part["url"].endswith("parameter-combination") and shall(part):
                names = [p["valueString"] for p in part["extension"] if p["url"] == "required"]
                yield from (Demand(row["type"], "searchParam", name) for name in names)


def places(own: Json, demand: Demand) -> list[list[Any]]:
    """The lists of the own statement that may hold it."""
    rest = own["rest"][0]
    if not demand.type:
        return [own["format"]]
    (row,) = (r for r in rest["resource"] if r["type"] == demand.type)
    across = [rest["searchParam"]] if demand.of == "searchParam" else []
    return [row.get(demand.of, []), *across]


def is_met(own: Json, demand: Demand) -> bool:
    return any(_is(entry, demand) for found in places(own, demand) for entry in found)


def _is(entry: Any, demand: Demand) -> bool:
    key = KEYS.get(demand.of)
    return bool(
        demand.value in entry if not demand.type else (entry[key] if key else entry) == demand.value
    )


@contextmanager
def taken_out(own: Json, demand: Demand) -> Iterator[None]:
    """The switch: it is not there meanwhile."""
    found = places(own, demand)
    before = [list(one) for one in found]
    for one in found:
        one[:] = [entry for entry in one if not _is(entry, demand)]
    yield
    for one, entries in zip(found, before, strict=True):
        one[:] = entries


@pytest.fixture(scope="module")
def required(shared: Path) -> Json:
    with tarfile.open(shared / "ig" / GUIDE) as archive:
        file = archive.extractfile("package/CapabilityStatement-us-core-server.json")
        assert file is not None
        found: Json = json.load(file)
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Server]:
    """With US Core installed."""
    with served("memory", tmp_path_factory.mktemp("us-core")) as found:
        conformance = found.domain.engine.conformance
        assert conformance is not None
        guide = read_package(shared / "ig" / GUIDE)
        made = conformance.packages.install(guide, 1, incomplete=True, searching=False)
        assert found.run(made) is not None
        yield found


@pytest.fixture(scope="module")
def own(server: Server) -> Json:
    found: Json = server.get("metadata").json()
    return found


def test_j01_every_shall_of_us_core_is_met(own: Json, required: Json) -> None:
    asked = list(demands(required))
    assert len(asked) > 180 and {d.of for d in asked} > set(KEYS)
    assert [demand for demand in asked if not is_met(own, demand)] == []
    assert own["instantiates"] == [US_CORE, BULK]


def test_j01_nothing_is_claimed_where_one_is_lacking(own: Json, required: Json) -> None:
    """The switch: each SHALL is taken out of the own statement once."""
    text = json.dumps(required).encode()
    assert fulfilled([text], own) == [US_CORE]
    for demand in sorted(set(demands(required))):
        with taken_out(own, demand):
            assert not is_met(own, demand)
            named = demand.value.rpartition("/")[2]
            assert any(named in row for row in lacking(required, own)), demand
            if demand.of in ("format", "operation"):
                assert fulfilled([text], own) == []
    assert fulfilled([text], own) == [US_CORE]


def test_j01_only_an_installed_guide_is_claimed(server: Server, own: Json) -> None:
    assert US_CORE in own["instantiates"]
    conformance = server.domain.engine.conformance
    assert conformance is not None
    (one,) = server.run(conformance.packages.all())
    server.run(conformance.packages.remove(one.id))
    assert server.get("metadata").json()["instantiates"] == [BULK]


def test_what_a_package_holds_is_no_claim_by_itself(tmp_path: Path) -> None:
    row = {"type": "Patient", "versioning": "versioned-update"}
    rests: list[Any] = [
        [{"mode": "client"}],
        [{"mode": "server", "resource": [{"type": "Martian"}]}],
        [{"mode": "server", "resource": [row]}],
        [{"mode": "server", "operation": [{"name": "x", "definition": "urn:x"}]}],
        [{"mode": "server", "resource": 7}],
        {},
        7,
        [{"mode": "server"}],
    ]
    kept = [
        {
            "resourceType": "CapabilityStatement",
            "url": f"urn:x:{number}",
            "kind": "requirements",
            "rest": rest,
        }
        for number, rest in enumerate(rests)
    ]
    instance = {"resourceType": "CapabilityStatement", "url": "urn:x:instance", "kind": "instance"}
    with served("memory", tmp_path) as server:
        assert install(server, package(*kept, instance | {"rest": rests[-1]})).status_code == 200
        answer = server.get("metadata")
        assert answer.status_code == 200
        assert answer.json()["instantiates"] == [BULK, "urn:x:7"]
