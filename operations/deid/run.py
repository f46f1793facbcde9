"""One run: what is shared by all resources of one answer. Random codes, the tally, the year."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import uuid4

from fhir_server.model.exchange import Json

DATA_ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
"""https://hl7.org/fhir/R4/extension-data-absent-reason.html"""

_LITERAL = re.compile(
    r"(?:(?P<base>https?://.*)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#.*)?"
)


def masked() -> Json:
    """An element whose value was taken away."""
    return {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": "masked"}]}


class Outcome(Enum):
    """What a leaf gives instead of a value. MASKED leaves a data-absent-reason in its place."""

    DROP = "removed"
    MASKED = "masked"


DROP: Final = Outcome.DROP
MASKED: Final = Outcome.MASKED


class Touch(NamedTuple):
    """What happened to ``name`` (empty: the element itself) and by which rule (None: by the
    profile's default)."""

    rule: int | None
    name: str
    what: str


class Tally:
    """Counts at one element and, by name, at the elements below."""

    __slots__ = ("below", "counts")

    def __init__(self) -> None:
        self.below: dict[str, Tally] = {}
        self.counts: Counter[Touch] = Counter()

    def at(self, name: str) -> Tally:
        found = self.below.get(name)
        if found is None:
            found = self.below[name] = Tally()
        return found

    def absorb(self, other: Tally) -> None:
        self.counts.update(other.counts)
        for name, below in other.below.items():
            self.at(name).absorb(below)

    def lines(self, path: str = "") -> Iterator[tuple[str, Touch, int]]:
        """Every count with the path of its element."""
        for touch, count in self.counts.items():
            yield (f"{path}.{touch.name}" if touch.name else path), touch, count
        for name, below in self.below.items():
            yield from below.lines(f"{path}.{name}" if path else name)


class Run:
    """``year``: today's. ``base``: the server's own base URL. ``new_id`` must be random.

    ``tally``: the counts by resource type; ``at``: those of the element being walked.
    """

    __slots__ = ("_aliases", "_base", "_codes", "_local", "at", "inside", "new_id", "tally", "year")

    def __init__(self, year: int, base: str = "", new_id: Callable[[], str] | None = None) -> None:
        self.year = year
        self.new_id = new_id or (lambda: str(uuid4()))
        self.tally = Tally()
        self.at = self.tally
        self.inside = False
        self._base = base.rstrip("/")
        self._codes: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        self._local: dict[str, str] = {}

    def alias(self, url: str, key: str) -> None:
        """References to ``url`` mean the resource ``key`` (``Patient/1``)."""
        self._aliases[url] = key

    def learn(self, resource: Json) -> None:
        """Take the fullUrls of a Bundle, and of Bundles in it, as other names of its resources."""
        for entry in _dicts(resource.get("entry")):
            inner, url = entry.get("resource"), entry.get("fullUrl")
            if isinstance(inner, dict):
                if isinstance(url, str) and "id" in inner:
                    self.alias(url, f"{inner.get('resourceType')}/{inner['id']}")
                self.learn(inner)
        for parameter in _dicts(resource.get("parameter")):
            if isinstance(parameter.get("resource"), dict):
                self.learn(parameter["resource"])

    def code(self, key: str) -> str:
        """The random code of a resource, the same for the whole run."""
        key = self._aliases.get(key, key)
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = self.new_id()
        return code

    def open_container(self) -> dict[str, str]:
        """A resource begins: names of contained resources are its own. Returns the outer names."""
        outer, self._local = self._local, {}
        return outer

    def close_container(self, outer: dict[str, str]) -> None:
        self._local = outer

    def contained_code(self, name: str) -> str:
        return self._local.setdefault(name, f"c{len(self._local) + 1}")

    def reference(self, reference: str) -> tuple[str, str | None]:
        """The coded form of a literal reference, and the type of its target if it says so."""
        if reference.startswith("#"):
            local = reference[1:]
            return (f"#{self.contained_code(local)}" if local else "#"), None
        literal = _LITERAL.fullmatch(reference)
        type_ = literal["type"] if literal else None
        if reference in self._aliases:
            key = self._aliases[reference]
            type_ = key.partition("/")[0]
        elif literal and literal["base"] in (None, self._base):
            key = f"{literal['type']}/{literal['id']}"
        else:
            key = reference
        return f"urn:uuid:{self.code(key)}", type_


def _dicts(value: Any) -> Iterable[Json]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
