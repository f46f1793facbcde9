"""The profiles of IHE BALP that our events are of: cardinalities, patterns, slices as published."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.audit.decisions import DecisionRecord, decided
from fhir_server.access.audit.entry import Decision, Entry, Recording
from fhir_server.access.audit.events import Part, event_of, parts_of
from fhir_server.access.audit.pieces import View
from fhir_server.access.principal import Principal
from fhir_server.definitions.registry import load
from fhir_server.http.recording import Seen
from fhir_server.http.recording import entry as entry_of
from fhir_server.validation.validate import Validator

Json = dict[str, Any]
VALUE_SETS = {
    "AllReadVS": {"read", "vread"},
    "AllSearchVS": {"search", "search-type", "search-system"},
    "AllUpdateVS": {"update", "patch"},
}
"""Of the package: by which a slice is told from others."""
BASE = "https://ehr.example/fhir"
CHECK = Validator(load()).check
PREFIX = "package/StructureDefinition-IHE.BasicAudit."
PROFILES = {
    "read": "PatientRead",
    "vread": "PatientRead",
    "create": "PatientCreate",
    "update": "PatientUpdate",
    "patch": "PatientUpdate",
    "delete": "PatientDelete",
    "search-type": "PatientQuery",
    "search-system": "PatientQuery",
}
QUERIES = {"search-type", "search-system"}


@pytest.fixture(scope="module")
def profiles(shared: Path) -> dict[str, Json]:
    """Profile id after ``IHE.BasicAudit.`` -> StructureDefinition."""
    [archive] = (shared / "ig").glob("ihe.iti.balp-*.tgz")
    found = {}
    with tarfile.open(archive) as package:
        for member in package:
            if member.name.startswith(PREFIX):
                content = package.extractfile(member)
                assert content is not None
                name = member.name.removeprefix(PREFIX).removesuffix(".json")
                found[name] = json.load(content)
    return found


def rows(profiles: dict[str, Json], name: str) -> Iterator[Json]:
    """The elements that a profile and those it is derived from constrain."""
    profile = profiles[name]
    base = profile["baseDefinition"].rpartition("IHE.BasicAudit.")[2]
    if base in profiles:
        yield from rows(profiles, base)
    yield from profile["differential"]["element"]


def faults(event: Json, profiles: dict[str, Json], name: str) -> list[str]:
    """What of a profile does not hold: min, max and patterns of elements and slices."""
    elements = list(rows(profiles, name))
    slices: dict[str, Json] = {}
    for row in elements:
        place, _, tail = row["id"].partition(":")
        if tail and "." not in tail:
            new = {"path": place, "patterns": [], "others": []}
            new["others"] += [s for s in slices.values() if s["path"] == place]
            made = slices.setdefault(row["id"], new)
            bound = row.get("binding", {}).get("valueSet", "").rpartition("/")[2]
            if bound in VALUE_SETS:
                made["codes"] = VALUE_SETS[bound]
        pattern = next((v for k, v in row.items() if k.startswith(("pattern", "fixed"))), None)
        owner = row["id"].rpartition(".")[0]
        leaf = row["id"].rpartition(".")[2]
        if pattern is not None and ":" in owner and leaf in ("type", "role", "requestor"):
            slices[owner]["patterns"].append((leaf, pattern))
        elif pattern is not None and row["id"] in slices:
            slices[row["id"]]["patterns"].append(("", pattern))
    wrong = []
    for row in elements:
        for value in _owners(event, row["id"], slices):
            wrong += _judge(value, row)
    return wrong


def _owners(event: Json, id_: str, slices: dict[str, Json]) -> list[Any]:
    """The values of which the last step of an id is a member."""
    steps = id_.split(".")[1:]
    values: list[Any] = [event]
    walked = "AuditEvent"
    for step in steps[:-1]:
        name = step.partition(":")[0]
        found = [v for value in values for v in _list(value.get(name))]
        walked += f".{step}"
        if ":" in step:
            found = [v for v in found if _in_slice(v, slices[walked])]
        values = found
    last = steps[-1] if steps else ""
    return [(value, last, slices.get(f"{walked}.{last}")) for value in values]


def _judge(owned: Any, row: Json) -> list[str]:
    value, step, slice_ = owned
    name = step.partition(":")[0]
    if not name or "[x]" in name or "/" in step:
        return []
    found = _list(value.get(name))
    if slice_ is not None:
        found = [v for v in found if _in_slice(v, slice_)]
    wrong = []
    if len(found) < row.get("min", 0):
        wrong.append(f"{row['id']}: {len(found)} of at least {row['min']}")
    if row.get("max", "*") != "*" and len(found) > int(row["max"]):
        wrong.append(f"{row['id']}: {len(found)} of at most {row['max']}")
    pattern = next((v for k, v in row.items() if k.startswith(("pattern", "fixed"))), None)
    if pattern is not None and slice_ is None:
        wrong += [f"{row['id']}: {v}" for v in found if not _has(v, pattern)]
    return wrong


def _in_slice(value: Any, slice_: Json) -> bool:
    if "codes" in slice_:
        return value.get("code") in slice_["codes"]
    if not slice_["patterns"]:
        return False
    if not any(member == "type" for member, _ in slice_["patterns"]):
        typed = (s for s in slice_["others"] if any(m == "type" for m, _ in s["patterns"]))
        if any(_in_slice(value, other) for other in typed):
            return False
    chosen = [p for p in slice_["patterns"] if p[0] in ("", "type")] or slice_["patterns"]
    also = [p for p in slice_["patterns"] if p[0] == "role"]
    return all(_has(value if not m else value.get(m), p) for m, p in (*chosen, *also))


def _has(value: Any, pattern: Any) -> bool:
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(_has(value.get(k), p) for k, p in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(_has(v, p) for v in value) for p in pattern)
    return bool(value == pattern)


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def line(interaction: str, **more: Any) -> Entry:
    given = {
        "at": 1_700_000_000_000_000,
        "request": "r-1",
        "interaction": interaction,
        "method": "GET",
        "status": 200,
        "url": b"/fhir/Observation?patient=p1",
        "client": "app",
        "user": "ann",
        "role": "nurse",
        "grant": "0" * 32,
        "purpose": "TREAT",
        "peer": "192.0.2.7",
        "person": "Practitioner/ann",
        "patients": ("p1",),
    }
    if interaction not in QUERIES:
        given["what"] = "Observation/1/_history/1"
    return Entry(**(given | more))


@pytest.mark.parametrize("whole", [True, False], ids=["auditor", "patient"])
@pytest.mark.parametrize("interaction", PROFILES)
def test_requests(profiles: dict[str, Json], interaction: str, whole: bool) -> None:
    for more in ({}, {"user": "", "role": "", "person": ""}, {"purpose": "", "peer": ""}):
        entry = line(interaction, **more)
        event = event_of(entry, Part("p1"), View(BASE, whole))
        CHECK(event)
        assert faults(event, profiles, PROFILES[interaction]) == []


DECISION = Decision(
    "p1", "deny", "Consent/c provision[1]", "not listed", "TREAT", "jti-1", (("c", 3), ("d", 1))
)


@pytest.mark.parametrize("whole", [True, False], ids=["auditor", "patient"])
@pytest.mark.parametrize("consents", [True, False])
@pytest.mark.parametrize("outcome", ["permit", "deny"])
def test_decisions(profiles: dict[str, Json], outcome: str, consents: bool, whole: bool) -> None:
    import msgspec

    decision = msgspec.structs.replace(
        DECISION, outcome=outcome, consents=DECISION.consents if consents else ()
    )
    for more in ({}, {"user": "", "person": "", "role": ""}):
        entry = line("read", decisions=(decision,), **more)
        part = parts_of(entry)[-1]
        assert part.decision is decision
        event = event_of(entry, part, View(BASE, whole))
        CHECK(event)
        assert faults(event, profiles, "AuthZconsent") == []
        assert event["outcome"] == ("0" if outcome == "permit" else "4")
        text = str(event)
        assert ("Consent/c/_history/3" in text and "Consent/d/_history/1" in text) is consents
        assert "Consent/c provision[1]" in text and "jti-1" in text
        assert ("not listed" in event["outcomeDesc"]) is whole


def test_the_published_examples_hold_and_the_check_can_fail(
    profiles: dict[str, Json], shared: Path
) -> None:
    [archive] = (shared / "ig").glob("ihe.iti.balp-*.tgz")
    with tarfile.open(archive) as package:
        content = package.extractfile("package/example/AuditEvent-ex-auditAuthZconsent-deny.json")
        assert content is not None
        example = json.load(content)
    assert faults(example, profiles, "AuthZconsent") == []
    event = event_of(line("read"), Part("p1"), View(BASE))
    broken = [
        event | {"action": "C"},
        event | {"agent": event["agent"][1:]},
        event | {"entity": [e for e in event["entity"] if "role" not in e]},
        event | {"subtype": []},
        event | {"agent": [{k: v for k, v in a.items() if k != "who"} for a in event["agent"]]},
    ]
    assert faults(event, profiles, "PatientRead") == []
    assert all(faults(one, profiles, "PatientRead") for one in broken)
    assert faults(event, profiles, "PatientCreate")


def test_a_decision_is_recorded_with_its_request() -> None:
    """The port of who decides: once per decision, in the line of the request."""
    ann = Principal("ann", user="ann", client="app")
    recording = Recording("chain/1", "r-1")
    record = DecisionRecord(
        principal=ann,
        patient="p1",
        consents=(("c", 3),),
        rule="Consent/c provision[0]",
        outcome="deny",
        reason="actor not listed",
        purpose="TREAT",
        jti="jti-1",
    )
    decided(recording, record)
    decided(recording, record)
    decided(None, record)
    made = entry_of(Seen(recording, ann), "read", 404, method="GET", url=b"/fhir/Observation/1")
    assert [one.rule for one in made.decisions] == ["Consent/c provision[0]"]
    import msgspec

    again = msgspec.json.decode(msgspec.json.encode(made), type=Entry)
    assert again == made
    kinds = [part.decision is not None for part in parts_of(again)]
    assert kinds == [False, True]
