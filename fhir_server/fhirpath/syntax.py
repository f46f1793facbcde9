"""The abstract syntax: a closed set of frozen nodes (http://hl7.org/fhirpath/N1/#syntax)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fhir_server.fhirpath.values import System


@dataclass(frozen=True, slots=True)
class Empty:
    """``{}``"""


@dataclass(frozen=True, slots=True)
class Literal:
    value: System


@dataclass(frozen=True, slots=True)
class Variable:
    """``$this``, ``$index`` or ``$total``."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """``%name``"""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """``base.name``; without a base the name of the context's type or of its child."""

    base: Syntax | None
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """``base.name(arguments)``; without a base the input is ``$this``."""

    base: Syntax | None
    name: str
    arguments: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Indexer:
    base: Syntax
    index: Syntax


@dataclass(frozen=True, slots=True)
class Unary:
    """``+`` or ``-``"""

    operator: str
    operand: Syntax


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Syntax
    right: Syntax


@dataclass(frozen=True, slots=True)
class TypeName:
    """``FHIR.Patient``, ``System.String`` or, without a namespace, ``Patient``."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class TypeTest:
    """``operand is type`` or ``operand as type``."""

    operator: str
    operand: Syntax
    type: TypeName


Syntax: TypeAlias = (
    Empty | Literal | Variable | Constant | Member | Call | Indexer | Unary | Binary | TypeTest
)
