"""What a method is, and the reading of its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from fhir_server.model.exchange import Json
from operations.deid.run import Outcome, Run


class Site(NamedTuple):
    """Where a rule acts: element path for reports, FHIR type, and the codes that a required
    binding allows (None: open). ``key`` is the JSON name."""

    path: str
    key: str
    type: str
    values: frozenset[str] | None = None


Leaf: TypeAlias = Callable[[Any, Json, Run], Any]
"""A primitive value, the object around it and the run -> the new value or an Outcome."""

Node: TypeAlias = Callable[[Json, Run], Json]
"""A complex value -> the new one; empty: it is removed."""


PROJECT: Final = "project"
SUBJECT: Final = "subject"
TEXT: Final = "text"


class Method(Protocol):
    """A rule's method, bound to its parameters. Built once per rule, at load."""

    drops: bool = False
    """True: nodes go without a look inside, unless an earlier rule speaks of what is inside."""

    needs: frozenset[str] = frozenset()
    """What a run must bring: the key of a PROJECT, the SUBJECT of each resource, cleaned TEXT."""

    def leaf(self, site: Site) -> Leaf:
        """What to do with a primitive of a known JSON type."""

    def node(self, site: Site) -> Node | None:
        """What to do with a whole complex value; None: each of its leaves for itself."""
        return None


class Given(Mapping[str, Any]):
    """The parameters of a rule. Unknown names and wrong types raise ValueError."""

    def __init__(self, params: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
        self._params, self._shared = params, shared
        self._asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return self._params[name] if name in self._params else self._shared[name]

    def __iter__(self) -> Any:
        return iter({**self._shared, **self._params})

    def __len__(self) -> int:
        return len({**self._shared, **self._params})

    def unknown(self) -> list[str]:
        return sorted(set(self._params) - self._asked)

    def pattern(self, name: str) -> Callable[[str], object] | None:
        """A regular expression that the whole value must match."""
        text = self.get(name)
        if text is None:
            return None
        try:
            return re.compile(text, re.ASCII).fullmatch
        except (re.error, TypeError):
            raise ValueError(f"{name} is not a regular expression") from None

    def strings(self, name: str) -> frozenset[str]:
        value = self.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} is a list of strings")
        return frozenset(value)

    def flag(self, name: str) -> bool:
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is true or false")
        return value

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        """One of a few words, in any case, the first unless it is given."""
        value = self.get(name) or choices[0]
        for choice in choices:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise ValueError(f"{name} is one of {', '.join(choices)}")

    def decimal(self, name: str) -> Decimal:
        """A number that must be given, 0 or more."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value < 0:
            raise ValueError(f"{name} is a number, 0 or more")
        return Decimal(str(value))

    def secret(self, name: str) -> bytes | None:
        """A key that is written in the file; None: it is left to the run."""
        value = self.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise ValueError(f"{name} is a string")
        return value.encode()

    def number(self, name: str, default: int) -> int:
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} is an integer")
        return value


def dropped(_value: Any, _around: Json, _run: Run) -> Outcome:
    return Outcome.DROP


def unchanged(value: Any, _around: Json, _run: Run) -> Any:
    return value


def text(value: Any) -> str:
    """The value if it is a string, else the empty string."""
    return value if isinstance(value, str) else ""
