"""How patients decide in one record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fhir_server.access.consent.maskable import maskable
from fhir_server.access.consent.policy import Ties
from fhir_server.access.consent.source import Here, PolicySource
from fhir_server.access.policy import CompileFilter
from fhir_server.access.roles import ABOUT
from fhir_server.access.ties import PROVENANCE, TIED
from fhir_server.search.plan import Predicate
from fhir_server.search.schema import SearchSchema
from fhir_server.store.base import Store


@dataclass(frozen=True, slots=True)
class Patients:
    """Their consents, and how resources are tied to them. ``scopes``: compiles the parameter by
    which a type names a patient."""

    source: PolicySource
    ties: Ties
    scopes: CompileFilter


def patients(store: Store, schema: SearchSchema, here: Here, scopes: CompileFilter) -> Patients:
    """Of a store."""
    compartment = schema.definitions.compartment("Patient")

    def params(type_: str) -> tuple[str, ...] | None:
        found = schema.of(type_).patient if type_ in compartment else None
        return (*found, TIED) if found is not None and type_ == PROVENANCE else found

    def named(type_: str, patient: str) -> Predicate:
        return scopes(type_, ((ABOUT[type_][0], f"Patient/{patient}"),))

    def unnamed(type_: str) -> Predicate:
        return scopes(type_, ((f"{ABOUT[type_][0]}:missing", "true"),))

    @cache
    def masks(type_: str) -> frozenset[str]:
        return maskable(schema, type_)

    ties = Ties(params, named, masks, unnamed)
    return Patients(PolicySource(store, schema, here), ties, scopes)
