"""The record of one patient as features read it: from the session or from a Bundle.

Both give parsed resources with the reference that a result names as its basis: versioned
where the version is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

from .casing import CodePair

Groups: TypeAlias = Mapping[tuple[CodePair, ...], int]
"""Codes that mean the same, and the moment before which one value is enough."""

MEDICATION_TYPES = ("MedicationRequest", "MedicationStatement")


class Item(NamedTuple):
    """A resource of the record and its reference, versioned if it can be."""

    reference: str
    resource: Json


class RecordReader(Protocol):
    """The patient's resources, restricted by whoever hands it out. None: not permitted."""

    async def patient(self) -> Item: ...

    async def observations(self, groups: Groups) -> list[Item] | None:
        """For each group of codes, newest first, at least as far back as the first one with a
        value that began before its moment (microseconds); all of them where that is ``PAST``."""
        ...

    async def conditions(self) -> list[Item] | None: ...

    async def medications(self) -> list[Item] | None:
        """MedicationRequest and MedicationStatement."""
        ...

    async def whole(self, type_: str) -> list[Item] | None:
        """Every resource of a type that is about the patient."""
        ...

    async def resource(self, reference: str) -> Json | None:
        """What a reference of the record leads to (a Medication); None if it leads nowhere."""
        ...


class BundleRecord:
    """A Bundle handed in by the caller instead of the stored record.

    ``patient``: whose record it is, where the Bundle need not bring its Patient.
    Raises Unprocessable when it is not clear whose record it is.
    """

    def __init__(self, bundle: Json, patient: Item | None = None) -> None:
        self._by_reference: dict[str, Json] = {}
        self._items = [self._indexed(*entry) for entry in _entries(bundle)]
        own = [item for item in self._items if item.resource["resourceType"] == "Patient"]
        if len(own) > 1:
            raise Unprocessable("data: the Bundle holds more than one Patient", code="multiple")
        if not own and patient is None:
            raise Unprocessable("data: the Bundle holds no Patient", code="required")
        self._patient = own[0] if own else patient
        if own and patient and not own[0].reference:
            self._patient = Item(patient.reference, own[0].resource)
        if (
            own
            and patient
            and own[0].resource.get("id", patient_id(patient)) != patient_id(patient)
        ):
            raise Unprocessable("data: its Patient is another one", code="invalid")
        names = {
            name
            for name, resource in self._by_reference.items()
            if own and resource is own[0].resource
        }
        if patient is not None:
            names.add(f"Patient/{patient_id(patient)}")
        self._names = names

    async def patient(self) -> Item:
        assert self._patient is not None
        return self._patient

    async def observations(self, groups: Groups) -> list[Item] | None:
        return self._of("Observation")

    async def conditions(self) -> list[Item] | None:
        return self._of("Condition")

    async def medications(self) -> list[Item] | None:
        return [item for type_ in MEDICATION_TYPES for item in self._of(type_)]

    async def whole(self, type_: str) -> list[Item] | None:
        return self._of(type_)

    async def resource(self, reference: str) -> Json | None:
        return self._by_reference.get(reference)

    def _of(self, type_: str) -> list[Item]:
        return [
            item
            for item in self._items
            if item.resource["resourceType"] == type_ and self._is_about(item.resource)
        ]

    def _is_about(self, resource: Json) -> bool:
        """Resources about others are not read; one without a subject is taken as about him."""
        subject = resource.get("subject")
        if not isinstance(subject, dict):
            return True
        reference = subject.get("reference")
        if reference is None:
            return "identifier" not in subject
        return unversioned(reference) in self._names

    def _indexed(self, full_url: str, resource: Json) -> Item:
        type_, id_ = resource["resourceType"], resource.get("id")
        local = f"{type_}/{id_}" if id_ else ""
        for name in filter(None, (full_url, local)):
            self._by_reference[name] = resource
        return Item(versioned(local or full_url, resource), resource)


def _entries(bundle: Json) -> Iterator[tuple[str, Json]]:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise Unprocessable("data: Bundle.entry is an array", code="structure")
    for i, entry in enumerate(entries):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if resource is None:
            continue
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            raise Unprocessable(
                "data: an entry is not a resource",
                code="structure",
                expression=f"Bundle.entry[{i}]",
            )
        full_url = entry.get("fullUrl")
        yield (full_url if isinstance(full_url, str) else ""), resource


def patient_id(item: Item) -> str:
    return str(item.resource.get("id", ""))


def versioned(reference: str, resource: Json) -> str:
    """``Observation/1/_history/2`` where ``meta.versionId`` is known."""
    version = resource.get("meta", {}).get("versionId")
    if not reference or reference.startswith("urn:") or not isinstance(version, str):
        return reference
    return f"{reference}/_history/{version}"


def unversioned(reference: str) -> str:
    return reference.partition("/_history/")[0]
