"""What the tests of the tools of consent ask, and of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhir_server.access.roles import SHARED
from fhir_server.access.ties import EXTENSION
from fhir_server.definitions.registry import load
from fhir_server.validation.validate import Validator
from tests.consent.worlds import Twin, to
from tests.serving import Json, served

CHECK = Validator(load()).check
Bearer = dict[str, str]
PREVIEW = "Patient/p1/$consent-preview"


VALUES: dict[str, tuple[str, Any]] = {
    "template": ("valueCode", None),
    "actor": ("valueReference", to),
    "label": ("valueCode", None),
    "data": ("valueReference", to),
    "period": ("valuePeriod", None),
    "until": ("valueDate", None),
    "replaces": ("valueId", None),
    "revoke": ("valueId", None),
    "understood": ("valueBoolean", None),
    "draft": ("valueBoolean", None),
    "language": ("valueCode", None),
}


GIVEN: dict[str, Json] = {
    "family-doctor": {"actor": "Practitioner/d"},
    "sensitive-only-here": {"actor": "Organization/z", "label": ["HIV", "SUD"]},
    "hide-kind": {"label": "R", "actor": "Practitioner/d"},
    "hide-kind-always": {"label": ["HIV", "PSY"], "actor": "Practitioner/d"},
    "hide-data": {"data": ["Encounter/e1", "Observation/v3"], "actor": "Practitioner/d"},
    "hide-time": {"period": {"start": "2024-03-02", "end": "2024-03-03"}},
    "not-this-person": {"actor": ["PractitionerRole/er"]},
    "treating-team": {"actor": "Practitioner/d"},
    "research-de-identified": {},
    "research-none": {},
}


def parameters(**given: Any) -> Json:
    parts: list[Json] = []
    for name, values in given.items():
        member, made = VALUES[name]
        every = values if isinstance(values, list) else [values]
        parts += ({"name": name, member: made(value) if made else value} for value in every)
    return {"resourceType": "Parameters", "parameter": parts}


class Ward:
    """P1 has decided nothing yet. D treats P1; E of the Organization z does so too; F does not;
    G acts for P1."""

    def __init__(self, backend: str, folder: Path) -> None:
        self._served = served(backend, folder, open_=False)
        self.server = self._served.__enter__()
        self.twin = Twin(self.server, full=True)
        self.system, self.doctor, self.patient = (
            self.twin.system,
            self.twin.doctor,
            self.twin.patient,
        )
        for name in "ef":
            self.twin.put(
                {"resourceType": "Practitioner", "id": name, "name": [{"family": name.upper()}]}
            )
        role = {"practitioner": to("Practitioner/e"), "organization": to("Organization/z")}
        self.twin.put({"resourceType": "PractitionerRole", "id": "er", **role})
        for name, kind in (("e", "consultant"), ("f", "family-doctor")):
            self.server.user(name, kind, f"Practitioner/{name}")
        self.server.relation("e", "p1")
        self.server.user("g", "patient", "Patient/p2")
        self.server.relation("g", "p1")
        self.readers = {
            name: self.server.bearer("user/*.cruds", user=name) for name in ("d", "e", "f")
        }
        self.delegate = self.server.bearer("user/*.cruds", user="g")
        self.decide(revoke="c1")

    def close(self) -> None:
        self._served.__exit__(None, None, None)

    def ask(self, by: Bearer | None = None, **given: Any) -> Any:
        headers = by or self.patient
        return self.server.post("Patient/p1/$consent", parameters(**given), headers=headers)

    def decide(self, by: Bearer | None = None, **given: Any) -> Json:
        """The Consent."""
        answer = self.ask(by, **given)
        assert answer.status_code == 200, answer.text
        CHECK(answer.json())
        made: Json = answer.json()["parameter"][0]["resource"]
        return made

    def template(self, code: str, **given: Any) -> Json:
        return self.decide(template=code, understood=True, **GIVEN[code], **given)

    def preview(self, query: str, draft: Json | None = None, by: Bearer | None = None) -> Preview:
        headers = by or self.patient
        if draft is None:
            answer = self.server.get(f"{PREVIEW}?{query}", headers=headers)
        else:
            parts: list[Json] = [{"name": "consent", "resource": draft}]
            for pair in query.split("&"):
                name, _, value = pair.partition("=")
                parts.append({"name": name, "valueString": value})
            body = {"resourceType": "Parameters", "parameter": parts}
            answer = self.server.post(PREVIEW, body, headers=headers)
        assert answer.status_code == 200, answer.text
        CHECK(answer.json())
        return Preview(answer.json())

    def real(self, name: str, **headers: str) -> tuple[set[str], set[str]]:
        """Of what the patient has: what the server shows this user, and what it does not."""
        found: tuple[set[str], set[str]] = set(), set()
        history = self.server.get("_history?_count=500", headers=self.system).json()["entry"]
        # The Provenance of consents is nobody's: it is not in the record that is previewed.
        tied = {e["resource"]["id"] for e in history if EXTENSION in str(e.get("resource"))}
        for key in {"/".join(entry["fullUrl"].split("/")[-2:]) for entry in history}:
            type_, _, id_ = key.partition("/")
            beside = type_ == "Provenance" and id_ not in tied
            if beside or type_ in SHARED | {"Binary"} or self._status(key, self.patient) != 200:
                continue
            shown = self._status(key, self.readers[name] | headers) == 200
            url = f"{type_}?_id={id_}&_summary=count"
            searched = self.server.get(url, headers=self.readers[name] | headers).json()
            assert (searched.get("total") == 1) is shown, key
            found[not shown].add(key)
        return found

    def _status(self, url: str, headers: Bearer) -> int:
        return int(self.server.get(url, headers=headers).status_code)


class Preview:
    def __init__(self, body: Json) -> None:
        self.parts: list[Json] = body["parameter"]

    def one(self, name: str) -> Any:
        part = next(p for p in self.parts if p["name"] == name)
        return next(value for member, value in part.items() if member != "name")

    def rows(self, name: str) -> list[Json]:
        return [
            {p["name"]: next(v for m, v in p.items() if m != "name") for p in part["part"]}
            for part in self.parts
            if part["name"] == name
        ]

    @property
    def hidden(self) -> set[str]:
        return {row["resource"]["reference"] for row in self.rows("hidden")}

    def total(self, name: str) -> int:
        return sum(int(row[name]) for row in self.rows("type"))
