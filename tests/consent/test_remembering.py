"""What the gate remembers equals what a new one finds out: over random changes of everything that
decides who may see what, a face that has served all along answers as one that was just opened.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fhir_server.app import serving
from fhir_server.model.problem import NotFound
from tests.consent.bricks import Json, consent, to
from tests.consent.worlds import Answer, Twin, comparable, twins
from tests.serving import BACKENDS, Server

STEPS = 30
ASKED = (
    "Observation",
    "Observation/h1",
    "Observation/v2",
    "Condition",
    "Patient",
    "DiagnosticReport/v1",
    "Patient/p1/$everything",
)
READERS = ("doctor", "patient")
TYPES = "http://hl7.org/fhir/resource-types"
D = to("Practitioner/d")


def role(code: str) -> Json:
    system = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    return {"coding": [{"system": system, "code": code}]}


class Changing:
    """One of the changes that move what is permitted, at random."""

    def __init__(self, twin: Twin, seed: int) -> None:
        self._twin = twin
        self._rng = random.Random(seed)
        self._changes: tuple[Callable[[], Any], ...] = (
            *[self._consent] * 4,
            self._remove,
            self._expunge,
            self._membership,
            self._relation,
        )

    def __call__(self) -> str:
        change = self._rng.choice(self._changes)
        change()
        return change.__name__

    def _send(self, method: str, url: str, body: Json | None = None) -> None:
        options: Json = {"headers": self._twin.system}
        if body is not None:
            options["json"] = body
        answer = self._twin.server.send(method, url, **options)
        assert answer.status_code < 500, answer.text

    def _put(self, body: Json) -> None:
        self._send("PUT", f"{body['resourceType']}/{body['id']}", body)

    def _consent(self) -> None:
        rng = self._rng
        who = rng.choice(
            ["Practitioner/d", "Organization/z", "Group/team", "CareTeam/team", "Practitioner/x"]
        )
        rule: Json = {"type": rng.choice(["permit", "permit", "deny"])}
        if rng.random() < 0.7:
            rule["actor"] = [{"role": role("IRCP"), "reference": to(who)}]
        if rng.random() < 0.3:
            rule["class"] = [{"system": TYPES, "code": "Observation"}]
        if rng.random() < 0.3:
            rule = {"type": rng.choice(["permit", "deny"]), "provision": [rule]}
        status = rng.choice(["active", "active", "active", "inactive"])
        patient = to(rng.choice(["Patient/p1", "Patient/p1", "Patient/p2"]))
        id_ = rng.choice(["c1", "c3", "c4"])
        self._put(consent(id_, status=status, patient=patient, provision=rule))

    def _remove(self) -> None:
        self._send("DELETE", f"Consent/{self._rng.choice(['c1', 'c3', 'c4'])}")

    def _expunge(self) -> None:
        parameter = [{"name": "expungeEverything", "valueBoolean": True}]
        body = {"resourceType": "Parameters", "parameter": parameter}
        self._send("POST", f"Consent/{self._rng.choice(['c3', 'c4'])}/$expunge", body)

    def _membership(self) -> None:
        there, kind = self._rng.random() < 0.6, self._rng.randrange(4)
        if kind == 0:
            group: Json = {"resourceType": "Group", "id": "team", "type": "practitioner"}
            self._put({**group, "actual": True, **({"member": [{"entity": D}]} if there else {})})
        elif kind == 1:
            team: Json = {"resourceType": "CareTeam", "id": "team", "participant": [{"member": D}]}
            self._put({**team, "status": "active" if there else "inactive"})
        elif kind == 2:
            post = {"resourceType": "PractitionerRole", "id": "post", "practitioner": D}
            self._put({**post, "active": there, "organization": to("Organization/ward")})
        else:
            ward: Json = {"resourceType": "Organization", "id": "ward", "name": "Ward"}
            self._put({**ward, **({"partOf": to("Organization/z")} if there else {})})

    def _relation(self) -> None:
        server, patient = self._twin.server, self._rng.choice(["p1", "p2"])
        relations = server.domain.identities.relations
        if self._rng.random() < 0.6:
            server.relation("d", patient)
        else:
            with suppress(NotFound):
                server.run(relations.end("d", patient))


def told(server: Server, twin: Twin) -> list[Answer]:
    return [
        comparable(server.get(url, headers=getattr(twin, reader)))
        for reader in READERS
        for url in ASKED
    ]


def told_anew(twin: Twin) -> list[Answer]:
    """By a face that was opened for it."""
    server = twin.server
    parts = serving(server.domain, open_=False)
    fresh = Server(server.domain, server.run(parts.__aenter__()), server._runner)
    found = told(fresh, twin)
    server.run(parts.__aexit__(None, None, None))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_remembered_is_what_would_be_found(backend: str, seed: int, tmp_path: Path) -> None:
    with twins(backend, tmp_path) as (twin, _):
        change, seen = Changing(twin, seed), set[str]()
        for step in range(STEPS):
            done = change()
            known = told(twin.server, twin)
            assert known == told_anew(twin), (step, done)
            seen.add(repr(known))
        assert len(seen) > STEPS / 4, "the changes change nothing"
