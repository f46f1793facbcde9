"""The definitions as a walk needs them: the fields of an object by their JSON name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Field(NamedTuple):
    """One JSON property (``valueQuantity``) of one element (``value[x]``).

    ``content``: whose children a complex value has, a type or an element path; empty for a
    primitive. ``type``: the FHIR type, ``Resource`` for any resource. ``values``: the codes
    of a required binding, None if it is open.
    """

    key: str
    name: str
    type: str
    content: str
    many: bool
    required: bool
    values: frozenset[str] | None = None


class Elements(Protocol):
    """Access to the fields. ``resource_types``: every concrete resource type."""

    resource_types: frozenset[str]

    def fields(self, content: str) -> Mapping[str, Field]:
        """The fields of a type or element path by JSON name. KeyError if there is no such."""

    def resource_ancestry(self, type_: str) -> frozenset[str]:
        """A resource type and the abstract types above it."""
