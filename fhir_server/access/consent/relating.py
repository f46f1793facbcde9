"""Which resources a consent means by naming one: ``provision.data``.

https://hl7.org/fhir/R4/valueset-consent-data-meaning.html. ``related`` is taken both ways, the
instance, what it refers to and what refers to it: a patient who names an encounter means what
happened in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from fhir_server.model.resource import Key
from fhir_server.search.schema import SearchSchema

AUTHORS: Final = frozenset(
    {"author", "performer", "recorder", "asserter", "requester", "source", "practitioner"}
    | {"sender", "attester", "responsibleparty", "collector", "provider", "enterer", "informer"}
)
"""Search parameters whose target has made the statement."""


class Relating:
    """Of one schema. ``named``: what an instance that a consent names refers to itself."""

    def __init__(
        self, schema: SearchSchema, named: Mapping[Key, frozenset[Key]] | None = None
    ) -> None:
        self._schema = schema
        self._named = named or {}
        self.referring = cache(self._referring)

    def over(self, named: Mapping[Key, frozenset[Key]]) -> Relating:
        """The same, knowing more instances."""
        return Relating(self._schema, {**self._named, **named})

    def authors(self, type_: str, author: str) -> tuple[str, ...]:
        """Indexes of ``type_`` whose reference to an ``author`` names who made it."""
        parameters = self._schema.of(type_).parameters
        return tuple(
            index
            for code in sorted(AUTHORS & parameters.keys())
            if author in parameters[code].targets
            for index in parameters[code].indexes
        )

    def _referring(self, type_: str, target: str) -> tuple[str, ...]:
        """Indexes of ``type_`` whose references may lead to a ``target``."""
        found = {
            index: None
            for parameter in self._schema.of(type_).parameters.values()
            if target in parameter.targets and not parameter.canonical
            for index in parameter.indexes
        }
        return tuple(found)

    def named_by(self, type_: str, id_: str) -> frozenset[Key]:
        """What the named instance refers to."""
        return self._named.get(Key(type_, id_), frozenset())
