"""What a terminology service is asked and what it answers, whoever does it.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from terminology.concepts import Concepts

Json: TypeAlias = Mapping[str, Any]


class Refused(Exception):
    """No answer is possible. ``code``: of the issue-type value set (not-found, too-costly,
    not-supported, code-invalid, business-rule, invalid); the text names the client's own input."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Source(Protocol):
    """Where the resources come from, as one caller may see them."""

    async def find(self, type_: str, url: str, version: str) -> Json | None:
        """By canonical url, with version "" the newest; not to be changed."""

    async def filed(self, code_system: Json) -> Concepts | None:
        """The concepts of a code system that lie beside its resource; None: it has none."""

    async def maps(self, system: str, reverse: bool) -> Sequence[Json]:
        """The ConceptMaps that lead from this system (``reverse``: to it)."""


class Coded(NamedTuple):
    """A Coding; what is empty was not said."""

    system: str = ""
    code: str = ""
    version: str = ""
    display: str = ""

    @classmethod
    def of(cls, coding: Json) -> Coded:
        return cls(
            str(coding.get("system", "")),
            str(coding.get("code", "")),
            str(coding.get("version", "")),
            str(coding.get("display", "")),
        )


class Verdict(NamedTuple):
    """Of ``$validate-code``. ``display``: the right one, "" if there is none."""

    result: bool
    message: str = ""
    display: str = ""


@dataclass(frozen=True, slots=True)
class Expanding:
    """How an expansion is wanted: https://hl7.org/fhir/R4/valueset-operation-expand.html

    ``count`` None: all in one. ``nested``: below each other, as in the code system.
    ``designations``: tokens (language or use) of those to show, empty: all, None: none.
    ``without``: systems to leave out.
    """

    filter: str = ""
    offset: int = 0
    count: int | None = None
    active: bool = False
    selectable: bool = False
    nested: bool = False
    language: str = ""
    designations: tuple[str, ...] | None = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Versions:
    """Which version of a code system is meant: https://hl7.org/fhir/R4/valueset-operation-expand.html

    Each system -> version: ``default`` where a value set does not say, ``check`` refuses another,
    ``force`` is taken whatever is said.
    """

    default: Mapping[str, str]
    check: Mapping[str, str]
    force: Mapping[str, str]

    def of(self, system: str, stated: str) -> str:
        version = self.force.get(system) or stated or self.default.get(system, "")
        demanded = self.check.get(system, "")
        if demanded and version and version != demanded:
            text = f"{system[:200]}: version {version[:60]} is used, {demanded[:60]} is demanded"
            raise Refused("business-rule", text)
        return version or demanded


ANY_VERSION = Versions({}, {}, {})
