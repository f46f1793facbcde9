"""A world of real sessions over a store and the road of one ``$predict`` call, for tests."""

from __future__ import annotations

import asyncio
import atexit
import copy
import itertools
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from fhir_server.access.drafts import Draft
from fhir_server.access.engine import Engine
from fhir_server.access.gate import system_session
from fhir_server.access.policy import ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.scopes import parse_scopes
from fhir_server.access.session import Session
from fhir_server.definitions.registry import load as load_definitions
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.problem import Unprocessable
from fhir_server.model.resource import Key
from fhir_server.search.explain import Trace
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import matches
from fhir_server.search.plan import Predicate, Search
from fhir_server.search.schema import SearchSchema
from fhir_server.store.base import Page, Store
from fhir_server.validation.validate import Validator
from operations.models.registry import SHIPPED, Registry
from operations.models.runtime import Runtime
from operations.parameters import decode
from operations.predict import predict_operation
from operations.registry import Invocation
from tests.serving import ONLY, STORES

NOW = "2026-06-01T12:00:00Z"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ATC = "http://www.whocc.no/atc"
UCUM = "http://unitsofmeasure.org"
READ_TYPES = ("Observation", "Condition", "MedicationRequest", "MedicationStatement")


class CountingStore:
    """A store that remembers the searches that reach it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.searches: list[Search] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        self.searches.append(search)
        return await self._store.run(search, trace)


class World:
    """A face over a store that holds these resources, written by the one write path."""

    backend = "memory"
    folder: Path | None = None
    opened: ClassVar[dict[World, Store]] = {}
    definitions = load_definitions()
    schema = SearchSchema(definitions)
    check = staticmethod(Validator(definitions).check)
    extract = staticmethod(compile_extract(schema))

    def __init__(self, resources: list[dict[str, Any]], *, scope: str = "") -> None:
        self.store = CountingStore(self._open())
        ids = itertools.count(1)
        self.engine = Engine(
            store=cast(Store, self.store),
            definitions=self.definitions,
            validate=self.check,
            extract=self.extract,
            matches=matches,
            now=lambda: parse_instant(NOW),
            new_id=lambda: f"new-{next(ids)}",
        )
        self.system = system_session(self.engine, "test")
        self.session = self._scoped(scope) if scope else self.system
        drafts = [
            Draft("PUT", Key(r["resourceType"], r["id"]), copy.deepcopy(r)) for r in resources
        ]
        if drafts:
            Road.runner.run(self.system.write(drafts))
        self.store.searches.clear()

    def _open(self) -> Store:
        # A folder of its own also where it names a database: no world sees another's resources.
        folder = tempfile.mkdtemp(dir=self.folder) if self.folder or ONLY else ""
        store = Road.runner.run(STORES[self.backend](Path(folder)))
        if self.backend != "memory":
            World.opened[self] = store
        return store

    def close(self) -> None:
        store = World.opened.pop(self, None)
        if store is not None:
            Road.runner.run(store.close())

    def _scoped(self, scope: str) -> Session:
        scopes = parse_scopes(scope, self.definitions.resource_types)
        principal = Principal("dr-test", scopes, patient="p")
        compartment = self.definitions.compartment("Patient")
        return Session(self.engine, principal, ScopePolicy(principal, compartment, _no_filter))

    @property
    def searched(self) -> list[str]:
        """The types looked for, without reads by id."""
        scans = [scan for search in self.store.searches for scan in search.scans]
        return [scan.type for scan in scans if scan.type != "Patient"]


def _no_filter(type_: str, filters: tuple[tuple[str, str], ...]) -> Predicate:
    raise AssertionError("no filters here")


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
    world: World | None = None,
    level: str = "instance",
    models: Registry | None = None,
) -> dict[str, Any]:
    """One call on ``Patient/p`` (or ``Patient``) by POST with Parameters, else by GET."""
    face = world or World(resources)
    operation = predict_operation(models or Road.models, indexes, face.system)
    pairs = [tuple(part.split("=", 1)) for part in query.split("&") if part]
    arguments = decode(operation.inputs, pairs, parameters, operation.body)
    if parameters is not None:
        face.session.validate(parameters)
    method, id_ = "POST" if parameters else "GET", "p" if level == "instance" else ""
    base = "http://127.0.0.1:8080/fhir"
    call = Invocation(level, "Patient", id_, method, base, parse_instant(NOW))
    try:
        return Road.runner.run(operation.handler(arguments, face.session, call))
    finally:
        if world is None:
            face.close()


def indexes(type_: str, parameter: str) -> tuple[str, ...]:
    return World.schema.of(type_).parameters[parameter].indexes


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


def complete(**who: Any) -> Chart:
    """Everything that SCORE2 and PREVENT need."""
    chart = Chart(**who)
    chart.pressure(140)
    chart.smoking("266919005")
    chart.measure("2093-3", 5.5, "mmol/L")
    chart.measure("2085-9", 1.3, "mmol/L")
    chart.measure("39156-5", 24, "kg/m2")
    chart.measure("62238-1", 88, "mL/min/{1.73_m2}")
    return chart


def risk_of(bundle: dict[str, Any]) -> float:
    return float(of_type(bundle, "RiskAssessment")[0]["prediction"][0]["probabilityDecimal"])


def feature_of(bundle: dict[str, Any], name: str) -> dict[str, Any]:
    (risk,) = of_type(bundle, "RiskAssessment")
    for extension in risk["extension"]:
        parts = extension["extension"]
        if parts[0]["valueCode"] == name:
            return {part["url"]: part for part in parts}
    raise AssertionError(name)


def diagnostics(bundle: dict[str, Any]) -> str:
    (outcome,) = of_type(bundle, "OperationOutcome")
    return "\n".join(issue["diagnostics"] for issue in outcome["issue"])


def refusal(chart: Chart, **values: Any) -> str:
    with pytest.raises(Unprocessable) as caught:
        predict(chart.resources, parameters(**({"model": "score2"} | values)))
    return "\n".join(issue.diagnostics for issue in caught.value.issues)


def models_of(bundle: dict[str, Any], type_: str) -> list[str]:
    found = of_type(bundle, type_)
    return sorted(resource["method"]["coding"][0]["code"] for resource in found)
