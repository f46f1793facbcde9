"""A session over plain resources and the road of one ``$predict`` call, for tests."""

from __future__ import annotations

import asyncio
import atexit
import copy
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from fhir_server.formats.json import dumps
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.problem import Forbidden, NotFound
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import All, InPatient, Search, TokenIs
from fhir_server.search.plan import Any as AnyOf
from operations.models.registry import SHIPPED, Registry
from operations.models.runtime import Runtime
from operations.parameters import decode
from operations.predict import predict_operation
from operations.registry import Invocation

NOW = "2026-06-01T12:00:00Z"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ATC = "http://www.whocc.no/atc"
UCUM = "http://unitsofmeasure.org"


@dataclass
class PlainSession:
    """Evaluates the few plans of feature gathering. ``denied``: types that may not be searched."""

    resources: list[dict[str, Any]]
    denied: frozenset[str] = frozenset()
    searches: list[Search] = field(default_factory=list)
    principal: Any = field(default_factory=lambda: SimpleNamespace(id="dr-test"))
    written: list[Any] = field(default_factory=list)

    def validate(self, resource: dict[str, Any]) -> None:
        return None

    async def read(self, key: Key) -> Stored:
        for resource in self.resources:
            if (resource["resourceType"], resource["id"]) == tuple(key):
                return _stored(resource)
        raise NotFound(f"{key} is not known")

    async def search(self, search: Search) -> Any:
        self.searches.append(search)
        scan = search.scans[0]
        if scan.type in self.denied:
            raise Forbidden(f"not permitted: search {scan.type}")
        found = [r for r in self.resources if r["resourceType"] == scan.type]
        found = [r for r in found if _holds(scan.where, r)]
        found.sort(key=lambda r: r.get("effectiveDateTime", ""), reverse=True)
        start = search.after[0] if search.after else 0
        page = found[start : start + search.count]
        more = (start + search.count,) if len(found) > start + search.count else None
        return SimpleNamespace(matches=[_stored(r) for r in page], next=more)

    def new_id(self) -> str:
        return f"new-{len(self.written)}"


def _holds(node: Any, resource: dict[str, Any]) -> bool:
    match node:
        case All(parts):
            return all(_holds(part, resource) for part in parts)
        case AnyOf(parts):
            return any(_holds(part, resource) for part in parts)
        case InPatient(ids):
            return resource["subject"]["reference"].removeprefix("Patient/") in ids
        case TokenIs("combo-code", system, code):
            parts = [resource, *resource.get("component", [])]
            codings = [c for p in parts for c in p["code"].get("coding", [])]
            return any((c.get("system"), c.get("code")) == (system, code) for c in codings)
    raise AssertionError(node)


def _stored(resource: dict[str, Any]) -> Stored:
    key = Key(resource["resourceType"], resource["id"])
    return Stored(key, int(resource["meta"]["versionId"]), 0, dumps(resource))


class Road:
    """One event loop with one runtime and the shipped models, for every call of the tests."""

    runner = asyncio.Runner()
    runtime = Runtime()
    models = Registry.of(runtime, [SHIPPED])

    @classmethod
    def close(cls) -> None:
        cls.runner.run(cls.runtime.close())
        cls.runner.close()


atexit.register(Road.close)


def predict(
    resources: list[dict[str, Any]],
    parameters: dict[str, Any] | None = None,
    query: str = "",
    session: PlainSession | None = None,
    level: str = "instance",
) -> dict[str, Any]:
    """One call on ``Patient/p`` (or ``Patient``) by POST with Parameters, else by GET."""
    operation = predict_operation(Road.models, lambda _, name: name)
    pairs = [tuple(part.split("=", 1)) for part in query.split("&") if part]
    arguments = decode(operation.inputs, pairs, parameters, operation.body)
    method, id_ = "POST" if parameters else "GET", "p" if level == "instance" else ""
    base = "http://127.0.0.1:8080/fhir"
    call = Invocation(level, "Patient", id_, method, base, parse_instant(NOW))
    subject = session or PlainSession(copy.deepcopy(resources))
    return Road.runner.run(operation.handler(arguments, subject, call))


def parameters(**values: Any) -> dict[str, Any]:
    """A Parameters resource; ``model`` is a name, ``override`` a dict of feature to value[x]."""
    listed: list[dict[str, Any]] = []
    for name, value in values.items():
        if name == "override":
            for feature, typed in value.items():
                member, json = typed
                part = [{"name": "feature", "valueCode": feature}, {"name": "value", member: json}]
                listed.append({"name": "override", "part": part})
        elif name == "data":
            listed.append({"name": name, "resource": value})
        elif isinstance(value, bool):
            listed.append({"name": name, "valueBoolean": value})
        else:
            member = "valueInstant" if name == "asOf" else "valueCode"
            values_ = value if isinstance(value, list) else [value]
            listed += [{"name": name, member: one} for one in values_]
    return {"resourceType": "Parameters", "parameter": listed}


class Chart:
    """Builds a small record of ``Patient/p``."""

    def __init__(self, sex: str = "male", age: int = 50, country: str | None = "FR") -> None:
        patient: dict[str, Any] = {"gender": sex, "birthDate": f"{2026 - age}-01-15"}
        if country:
            patient["address"] = [{"use": "home", "country": country}]
        self.resources: list[dict[str, Any]] = []
        self.add("Patient", "p", **patient)
        del self.patient["subject"]

    @property
    def patient(self) -> dict[str, Any]:
        return self.resources[0]

    def add(self, type_: str, id_: str = "", **fields: Any) -> dict[str, Any]:
        resource = {
            "resourceType": type_,
            "id": id_ or f"{type_.lower()}-{len(self.resources)}",
            "meta": {"versionId": "3"},
            "subject": {"reference": "Patient/p"},
            **fields,
        }
        self.resources.append(resource)
        return resource

    def measure(
        self, code: str, value: float | str, unit: str, when: str = "2026-05-01", **fields: Any
    ) -> dict[str, Any]:
        quantity = {"value": Decimal(str(value)), "unit": unit, "system": UCUM, "code": unit}
        return self.add(
            "Observation",
            status=fields.pop("status", "final"),
            code={"coding": [{"system": LOINC, "code": code}]},
            effectiveDateTime=when,
            valueQuantity=quantity,
            **fields,
        )

    def pressure(self, systolic: float, when: str = "2026-05-01") -> dict[str, Any]:
        """A blood pressure panel with components."""
        quantity = {"value": Decimal(str(systolic)), "system": UCUM, "code": "mm[Hg]"}
        return self.add(
            "Observation",
            status="final",
            code={"coding": [{"system": LOINC, "code": "85354-9"}]},
            effectiveDateTime=when,
            component=[
                {
                    "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
                    "valueQuantity": quantity,
                }
            ],
        )

    def smoking(self, code: str, when: str = "2026-05-01") -> dict[str, Any]:
        return self.add(
            "Observation",
            status="final",
            code={"coding": [{"system": LOINC, "code": "72166-2"}]},
            effectiveDateTime=when,
            valueCodeableConcept={"coding": [{"system": SNOMED, "code": code}]},
        )

    def condition(self, code: str, system: str = SNOMED, **fields: Any) -> dict[str, Any]:
        return self.add("Condition", code={"coding": [{"system": system, "code": code}]}, **fields)

    def drug(
        self, code: str, system: str = "http://www.whocc.no/atc", **fields: Any
    ) -> dict[str, Any]:
        fields = {"status": "active", "intent": "order", **fields}
        concept = {"coding": [{"system": system, "code": code}]}
        return self.add("MedicationRequest", medicationCodeableConcept=concept, **fields)


def of_type(bundle: dict[str, Any], type_: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in bundle.get("entry", [])]
    return [resource for resource in found if resource["resourceType"] == type_]
