"""What can be searched, with the parameters that users have posted: they come and go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import cast

from fhir_server.definitions.elements import SearchParameter
from fhir_server.definitions.registry import Definitions
from fhir_server.search.custom import Custom
from fhir_server.search.parameters import KindName, Parameter
from fhir_server.search.paths import Resolver
from fhir_server.search.schema import (
    Index,
    SearchSchema,
    TypeSchema,
    systems_of,
    targets_of,
)


class ExtendedSchema(SearchSchema):
    """A SearchSchema whose posted parameters change while the server runs."""

    def __init__(self, definitions: Definitions) -> None:
        super().__init__(definitions)
        self.custom: tuple[Custom, ...] = ()
        self._published = cache(super()._of)

    def revise(self, custom: tuple[Custom, ...]) -> None:
        """From now on these parameters are in force besides FHIR's own."""
        if custom == self.custom:
            return
        self.custom = custom
        self.of = cache(self._of)
        self.__dict__.pop("revincludes", None)
        self.revision += 1

    def _of(self, type: str) -> TypeSchema:
        published = self._published(type)
        mine = [
            one
            for one in self.custom
            if type in one.types
            and one.definition.code not in published.parameters
            and one.definition.code not in published.unsupported
        ]
        if not mine:
            return published
        indexes = {
            one.definition.code: custom_index(self.definitions, type, one.definition, one.index)
            for one in mine
        }
        usable = {
            one.definition.code: _parameter(
                one.definition, indexes[one.definition.code], self.definitions
            )
            for one in mine
            if type in one.indexed
        }
        return replace(
            published,
            parameters={**published.parameters, **usable},
            indexes=(*published.indexes, *indexes.values()),
            unindexed=frozenset(indexes.keys() - usable.keys()),
        )


def custom_index(
    definitions: Definitions, type: str, definition: SearchParameter, name: str
) -> Index:
    """How a posted parameter is read on one type. Without paths and expression: not at all."""
    try:
        paths = tuple(Resolver(definitions).paths(type, definition))
    except ValueError:
        return Index(name, definition.type, (), definition.expression or "")
    return Index(name, definition.type, paths)


def _parameter(definition: SearchParameter, index: Index, definitions: Definitions) -> Parameter:
    return Parameter(
        definition.code,
        cast(KindName, definition.type),
        (index.name,),
        targets=targets_of(definition, index.paths, definitions),
        canonical=bool(index.paths) and all(p.type != "Reference" for p in index.paths),
        systems=systems_of(index.paths, definitions) if index.paths else frozenset(),
        types=frozenset(path.type for path in index.paths),
        url=definition.url,
        description=definition.description,
    )


def types_of(definitions: Definitions, bases: Iterable[str]) -> frozenset[str]:
    """The resource types of bases, which may be abstract."""
    wanted = frozenset(bases)
    return frozenset(
        type_
        for type_ in definitions.resource_types
        if not wanted.isdisjoint(definitions.ancestors(type_))
    )
