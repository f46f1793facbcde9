"""The shape of a search parameter type: one file and one row each.

https://hl7.org/fhir/R4/search.html#ptypes. A row says how values are read from resources
(``readers``) and how a criterion is compiled to a predicate (``compile``). The
CapabilityStatement and the documentation are generated from the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from fhir_server.definitions.registry import load
from fhir_server.model.problem import BadRequest
from fhir_server.search.plan import Predicate
from fhir_server.search.values import IndexValues
from terminology.codes import Code

KindName: TypeAlias = Literal[
    "token", "string", "date", "number", "quantity", "reference", "uri", "composite", "special"
]


class Site(NamedTuple):
    """What values mean on this server.

    ``base``: own base URL without a trailing slash; absolute references below it are local.
    ``zone``: of dates that are written without one, stored and searched alike.
    """

    base: str = ""
    zone: tzinfo = UTC


Emit: TypeAlias = Callable[[Any, IndexValues], None]
"""Takes one element of a resource and appends its index values."""

Reader: TypeAlias = Callable[[str, Site], Emit]
"""``(index name, site) -> Emit``."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter on one resource type.

    ``kind``: token, date... ``indexes``: the names under which its values are stored, almost
    always one; parameters with equal expressions share one. ``targets``: resource types that
    a reference may have. ``narrowed``: the index holds references to other types too.
    ``canonical``: its values are canonical urls, not references. ``systems``: code systems
    that are implied, for codes that are written without one. ``mime``: the codes are mime types.
    ``types``: datatypes of the elements that it reads. ``components``: the parts of a composite;
    ``flat``: they are of the resource itself, so that its own parameters say all.
    """

    code: str
    kind: KindName
    indexes: tuple[str, ...]
    targets: tuple[str, ...] = ()
    narrowed: bool = False
    canonical: bool = False
    systems: frozenset[str] = frozenset()
    mime: bool = False
    types: frozenset[str] = frozenset()
    components: tuple[Component, ...] = ()
    flat: bool = False
    url: str = ""
    description: str = ""

    @property
    def leads(self) -> bool:
        """Whether its values lead to resources, for chains and includes."""
        return self.kind == "reference"

    @property
    def index(self) -> str:
        return self.indexes[0]


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a composite. ``inner``: how it reads the element; None for one that reads the
    whole resource. ``outer``: the parameter of the resource that has these values too.
    """

    code: str
    inner: Parameter | None
    outer: Parameter | None


class Terminology(Protocol):
    """What codes mean. Each raises BadRequest for what is not known or too large."""

    def members(self, value_set: str) -> tuple[Code, ...]:
        """The codes of a value set: its url, url|version or ValueSet/id."""
        ...

    def below(self, system: str, code: str) -> tuple[Code, ...]:
        """The code and every code that it subsumes."""
        ...

    def above(self, system: str, code: str) -> tuple[Code, ...]:
        """The code and every code that subsumes it."""
        ...

    def under(self, type_: str, id_: str) -> tuple[Code, ...]:
        """The resource and every one that is part of it, as (type, id)."""
        ...

    def over(self, type_: str, id_: str) -> tuple[Code, ...]:
        """The resource and every one that it is part of, as (type, id)."""
        ...


class NoTerminology:
    """Refuses: the criteria of SMART scopes are read without the terminology of this server."""

    def members(self, value_set: str) -> tuple[Code, ...]:
        text = f"{value_set[:200]}: value sets cannot be used in a scope, they may change under it"
        raise BadRequest(text, code="not-supported")

    def below(self, system: str, code: str) -> tuple[Code, ...]:
        text = f"{system[:200]}: a hierarchy cannot be used in a scope, it may change under it"
        raise BadRequest(text, code="not-supported")

    above = under = over = below


class Limits(NamedTuple):
    """What one query may ask for: alternatives of one criterion, chains and ``_has`` in one,
    includes that name a parameter. More is refused with ``too-costly``."""

    values: int = 1000
    hops: int = 4
    includes: int = 50


LIMITS: Final = Limits()


CASED: Final = frozenset({"http://unitsofmeasure.org"})
"""Code systems that are said to be case-sensitive elsewhere than in a definition of FHIR:
https://ucum.org/ucum"""


def defined_case(system: str) -> bool | None:
    """What the definitions of FHIR say of a code system."""
    return True if system in CASED else load().code_system_case_sensitive(system)


class Context(NamedTuple):
    """What the meaning of a search value depends on besides itself.

    ``base`` and ``zone``: as of Site. ``now``: microseconds since the epoch, for ``ap``.
    ``bodies``: whether the criteria are judged where the bodies of the resources are at hand.
    ``case_matters``: in the codes of this system; None is not known.
    """

    base: str = ""
    now: int = 0
    zone: tzinfo = UTC
    terminology: Terminology = NoTerminology()
    bodies: bool = True
    limits: Limits = LIMITS
    case_matters: Callable[[str], bool | None] = defined_case


@dataclass(slots=True)
class Criterion:
    """One ``name:modifier=a,b`` on one index. ``values``: the alternatives, still escaped.

    ``name``: as the client wrote it, for messages.
    """

    parameter: Parameter
    index: str
    name: str
    modifier: str
    values: tuple[str, ...]
    context: Context

    def bad(self, value: str, why: str) -> BadRequest:
        return BadRequest(f"{self.name}: {value[:100]!r} {why}")


@dataclass(frozen=True, slots=True)
class Kind:
    """One search parameter type. ``modifiers``: without ``missing``, which all have.

    ``modifier_types``: modifiers that need elements of one of these datatypes. ``example``: a
    query string that works on Patient or Observation. ``sortable``: values of this type have
    an order.
    """

    name: KindName
    description: str
    example: str
    readers: Mapping[str, Reader]
    compile: Callable[[Criterion], Predicate]
    modifiers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    sortable: bool = True
    modifier_types: Mapping[str, frozenset[str]] = field(default_factory=dict)
