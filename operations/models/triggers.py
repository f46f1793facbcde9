"""Which models a changed resource feeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fhir_server.model.exchange import Json

from .casing import CodePair, comparable
from .drafts import AI_LABEL
from .evidence import codings
from .manifest import Feature, every
from .package import ModelPackage
from .record import MEDICATION_TYPES


@dataclass(frozen=True, slots=True)
class Triggers:
    """``types``: whose every change counts; ``codes``: of Observations."""

    types: frozenset[str]
    codes: frozenset[CodePair]

    @classmethod
    def of(cls, wanted: Iterable[ModelPackage]) -> Triggers:
        """Of a model and those that it derives features from."""
        types: set[str] = set()
        codes: set[CodePair] = set()
        for package in wanted:
            manifest = package.features
            if manifest.exclusion or manifest.indication:
                types.add("Condition")
            if manifest.population is not None:
                types.add("Patient")
            for feature in every(manifest.feature):
                types.update(_types(feature))
                codes.update(map(comparable, feature.codes))
        return cls(frozenset(types), frozenset(codes))

    def fed_by(self, resource: Json) -> bool:
        """Is it something that the model reads? A draft of a model is not."""
        type_ = resource["resourceType"]
        if type_ != "Observation":
            return type_ in self.types
        if resource.get("status") == "preliminary" and _drafted(resource):
            return False
        parts = (resource, *resource.get("component", ()))
        borne = (comparable(pair) for part in parts for pair in codings(part.get("code")))
        return type_ in self.types or not self.codes.isdisjoint(borne)


def subject_of(resource: Json) -> str:
    """The id of the patient whom it is about; "" if it names none."""
    if resource["resourceType"] == "Patient":
        return str(resource.get("id", ""))
    subject = resource.get("subject") or resource.get("patient") or {}
    type_, _, id_ = str(subject.get("reference", "")).partition("/_history/")[0].rpartition("/")
    return id_ if type_.rpartition("/")[2] == "Patient" else ""


def _types(feature: Feature) -> Iterable[str]:
    if feature.kind == "condition":
        return ("Condition",)
    if feature.kind == "medication":
        return MEDICATION_TYPES
    if feature.kind == "fhirpath":
        return () if feature.codes else (feature.resource,)
    return () if feature.codes else ("Patient",)


def _drafted(resource: Json) -> bool:
    labels = resource.get("meta", {}).get("security", ())
    return any(label.get("code") == AI_LABEL["code"] for label in labels)
