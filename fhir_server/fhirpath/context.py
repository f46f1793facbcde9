"""What an evaluation is given: definitions, services, constants, clock and budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

from fhir_server.fhirpath.errors import FhirPathBudgetError
from fhir_server.fhirpath.node import Collection, Item, Json, Node, TypeModel
from fhir_server.model import ucum

Resolver: TypeAlias = Callable[[str], Json | None]
"""A reference (``Patient/1``, ``urn:uuid:...``) to its resource, None when it is not there."""

MemberOf: TypeAlias = Callable[[Json, str], bool | None]
"""Whether a code, Coding or CodeableConcept is in the value set; None when it is unknown."""

Subsumes: TypeAlias = Callable[[Json, Json], bool | None]
"""Whether the first Coding subsumes the second."""

ConformsTo: TypeAlias = Callable[[Json, str], bool]
"""Whether an element conforms to a profile; raises ValueError when the profile is unknown."""

Convert: TypeAlias = Callable[[Decimal, str, str], Decimal]
"""``convert(value, from_unit, to_unit)`` in UCUM; raises ValueError when not comparable."""

Trace: TypeAlias = Callable[[str, Collection], None]


@dataclass(frozen=True, slots=True)
class Services:
    """What needs more than the resource. Each may be absent; a function that needs it then
    raises FhirPathNotSupported (``resolve`` finds contained resources without it)."""

    resolve: Resolver | None = None
    member_of: MemberOf | None = None
    subsumes: Subsumes | None = None
    conforms_to: ConformsTo | None = None
    convert: Convert = ucum.convert
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one evaluation; beyond them it raises FhirPathBudgetError."""

    steps: int = 1_000_000
    items: int = 100_000
    characters: int = 1_000_000


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Context:
    """``resource``: the root resource where the subject of the evaluation is a part of it
    (%resource, %rootResource); ``constants``: values of %name; ``strict``: a name that the
    definitions do not have raises FhirPathError instead of finding nothing."""

    model: TypeModel | None = None
    services: Services = field(default_factory=Services)
    constants: Mapping[str, Json] = field(default_factory=dict)
    now: Callable[[], datetime] = _utc_now
    budget: Budget = field(default_factory=Budget)
    resource: Json = None
    strict: bool = False


class Run:
    """The state of one evaluation."""

    __slots__ = (
        "_now",
        "context",
        "index",
        "left",
        "model",
        "root",
        "subject",
        "total",
        "variables",
    )

    def __init__(self, context: Context, subject: Node, root: Node) -> None:
        self.context = context
        self.model = context.model
        self.subject = subject
        self.root = root
        self.left = context.budget.steps
        self.index: int | None = None
        self.total: Collection = []
        self.variables: dict[str, Collection] = {}
        self._now: datetime | None = None

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise FhirPathBudgetError(f"More than {self.context.budget.steps} steps")

    def bounded(self, items: Collection) -> Collection:
        """The same items, when there are not too many."""
        if len(items) > self.context.budget.items:
            raise FhirPathBudgetError(f"More than {self.context.budget.items} items")
        return items

    def text(self, text: str) -> str:
        """The same text, when it is not too long."""
        self.fits(len(text))
        return text

    def fits(self, characters: int) -> None:
        """Refuse a text before it is built."""
        if characters > self.context.budget.characters:
            raise FhirPathBudgetError(f"Text over {self.context.budget.characters} characters")

    def now(self) -> datetime:
        """The moment of the evaluation: one and the same throughout."""
        if self._now is None:
            self._now = self.context.now()
        return self._now

    def each(self, lambda_: Lambda, items: Collection) -> list[tuple[Item, Collection]]:
        """Every item with what the lambda gives for it as ``$this``, under its ``$index``."""
        self.spend(len(items))
        outer = self.index
        pairs = []
        for self.index, item in enumerate(items):
            pairs.append((item, lambda_([item], self)))
        self.index = outer
        return pairs


Lambda: TypeAlias = Callable[[Collection, Run], Collection]
"""A compiled expression: ``$this`` and the run to the result."""
