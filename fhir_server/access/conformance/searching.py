"""The SearchParameters of installed packages: in force like posted ones.

What FHIR itself, or something that came before, already answers for gives way to that; each is
told with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.access.conformance.packages import Installed
from fhir_server.definitions.elements import SearchParameter
from fhir_server.definitions.registry import Definitions
from fhir_server.definitions.structures import Archive
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem
from fhir_server.search.custom import Custom, definition_of, in_force
from fhir_server.search.definable import check, is_published
from fhir_server.search.extended import types_of

TYPE: Final = "SearchParameter"
State = Literal["usable", "waiting", "published", "refused"]
"""``waiting``: for a reindex. ``published``: FHIR's own parameter of that code answers."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A SearchParameter of a package. ``name``: of its values until the package is removed."""

    package: Installed
    resource: Json
    name: str

    @property
    def identity(self) -> str:
        """Another installation is another one: nothing was indexed in between."""
        return f"{self.name}.{self.package.since}"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one. ``reason``: why it is refused. ``custom``: what is in force."""

    package: str
    url: str
    code: str
    reason: str = ""
    custom: Custom | None = None

    @property
    def state(self) -> State:
        if self.custom is None:
            return "refused" if self.reason else "published"
        return "usable" if self.custom.types <= self.custom.indexed else "waiting"


def offered(archives: Iterable[tuple[Installed, Archive]]) -> Iterator[Offered]:
    """Those of the packages of which they are wanted."""
    for package, archive in archives:
        for type_, url in archive.urls() if package.searching else ():
            resource = archive.find(type_, url) if type_ == TYPE else None
            if resource is not None:
                digest = hashlib.sha256(f"{package.id} {url}".encode()).hexdigest()
                yield Offered(package, resource, f"package-{digest[:24]}")


def told(
    definitions: Definitions, one: Offered, others: Iterable[Custom], indexed: Iterable[str]
) -> Told:
    """``others``: what is in force before it. ``indexed``: type/identity of what is covered."""
    resource, id_, url = one.resource, one.package.id, str(one.resource["url"])
    code = str(resource.get("code", ""))
    if not _sound(resource):
        return Told(id_, url, code, "it lacks what a SearchParameter has to have")
    if not in_force(resource):
        return Told(id_, url, code, "it is not active")
    definition = definition_of(resource)
    if is_published(definitions, definition) or _says_again(definitions, resource, definition):
        return Told(id_, url, code)
    try:
        check(definitions, resource, one.name, others)
    except Problem as problem:
        return Told(id_, url, code, str(problem))
    types = types_of(definitions, definition.bases)
    covered = frozenset(type_ for type_ in types if f"{type_}/{one.identity}" in indexed)
    return Told(id_, url, code, custom=Custom(definition, one.identity, types, covered))


def _says_again(definitions: Definitions, resource: Json, definition: SearchParameter) -> bool:
    """Is it, on each of its types, FHIR's own parameter of that code, or a part of it? Guides say
    those again, to say which of them are expected."""
    types = types_of(definitions, definition.bases)
    found = [definitions.search_parameters(type_).get(definition.code) for type_ in types]
    own = [one for one in found if one is not None and one.type == definition.type]
    if not own or len(own) < len(types):
        return False
    derived = str(resource.get("derivedFrom", "")).partition("|")[0]
    said = _parts(definition)
    return all(derived == one.url or said <= _parts(one) for one in own)


def _parts(definition: SearchParameter) -> set[str]:
    return {"".join(part.split()) for part in (definition.expression or "").split("|")}


def _sound(resource: Json) -> bool:
    texts = [resource.get(name) for name in ("url", "code", "type")]
    texts += [resource.get("expression", ""), resource.get("xpathUsage", "")]
    texts += [resource.get("description", "")]
    lists = [resource.get("base"), resource.get("target", [])]
    return all(isinstance(one, str) for one in texts) and all(
        isinstance(one, list) and all(isinstance(type_, str) for type_ in one) for one in lists
    )
