"""What a search of AuditEvents says of the lines that it needs: when, and who is in them.

It only ever leaves out lines whose events cannot match; what is left is judged as events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Final

from fhir_server.access.audit import codes
from fhir_server.search import plan

BEGINNING: Final = 0
ENDLESS: Final = 2**62
FINENESS: Final = 1000
"""Microseconds that ``recorded`` leaves out: it is written in milliseconds."""

_OUTCOMES: Final = {"4": "s:4", "8": "s:5"}
NOBODY: Final = "unknown"
"""How events call a client that is not known."""
Names = frozenset[str]
_NAMED: Final = {coded[1] for coded in (codes.LOGIN, codes.LOGOUT, codes.START, codes.STOP)}


@dataclass(frozen=True, slots=True)
class Narrow:
    """Lines of ``[low, high)`` that have one of each of ``names`` (``index.names_of``).
    ``ids``: of the events, if the search names them.
    """

    low: int = BEGINNING
    high: int = ENDLESS
    names: tuple[Names, ...] = ()
    ids: frozenset[str] | None = None

    def both(self, other: Narrow) -> Narrow:
        ids = other.ids if self.ids is None else self.ids
        if self.ids is not None and other.ids is not None:
            ids = self.ids & other.ids
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        return Narrow(max(self.low, other.low), min(self.high, other.high), names, ids)

    def either(self, other: Narrow) -> Narrow:
        ids = None if self.ids is None or other.ids is None else self.ids | other.ids
        names: tuple[Names, ...] = ()
        if len(self.names) == len(other.names) == 1:
            names = (self.names[0] | other.names[0],)
        return Narrow(min(self.low, other.low), max(self.high, other.high), names, ids)

    @property
    def ordered(self) -> Narrow:
        """The names that are in fewest lines first."""
        rank = {"p": 0, "a": 1}
        names = sorted(self.names, key=lambda one: rank.get(min(one, default="z")[0], 2))
        return Narrow(self.low, self.high, tuple(names), self.ids)


NOTHING: Final = Narrow(low=ENDLESS, high=BEGINNING)
EVERYTHING: Final = Narrow()


def narrowed(predicate: plan.Predicate) -> Narrow:
    """Of what is true of every event that matches."""
    match predicate:
        case plan.All(parts):
            return reduce(Narrow.both, map(narrowed, parts), EVERYTHING)
        case plan.Any(parts):
            found = [narrowed(part) for part in parts]
            return reduce(Narrow.either, found) if found else NOTHING
        case plan.IdIn(ids):
            return Narrow(ids=frozenset(ids))
        case plan.InPatient(ids):
            return _names("p", ids)
        case plan.UpdatedIs(prefix, low, high):
            return _window(prefix, low, high)
        case plan.DateIs("date", prefix, low, high):
            return _window(prefix, low, high)
        case plan.ReferenceIs("patient" | "entity", "Patient", str(id_)):
            return _names("p", (id_,))
        case plan.ReferenceIs("agent", str(type_), str(id_)):
            return _names("a", (f"{type_}/{id_}",))
        case plan.TokenIs("agent:identifier", _, str(name)) if name != NOBODY:
            return _names("a", (name,))
        case plan.TokenIs("outcome", _, code) if code in _OUTCOMES:
            # A decision against somebody is an event of outcome 4, whatever was answered.
            also = ("d:deny",) if code == "4" else ()
            return Narrow(names=(frozenset((_OUTCOMES[code], *also)),))
        case plan.TokenIs("type" | "subtype" as param, _, str(code)):
            return _coded(param, code)
        case _:
            return EVERYTHING


def _names(kind: str, values: Iterable[str]) -> Narrow:
    return Narrow(names=(frozenset(f"{kind}:{value}" for value in values),))


def _window(prefix: plan.Prefix, low: int, high: int) -> Narrow:
    match prefix:
        case "eq" | "ap":
            return Narrow(low - FINENESS, high + FINENESS)
        case "gt" | "ge" | "sa":
            return Narrow(low=low - FINENESS)
        case "lt" | "le" | "eb":
            return Narrow(high=high + FINENESS)
        case _:
            return EVERYTHING


def _coded(param: str, code: str) -> Narrow:
    """Interactions of acts by their codes. Those of requests are too many to name."""
    if code in (codes.ALERT[1], codes.CONSENT[1]):
        acts = _acts(param, code)
        return Narrow(names=(acts | {"d:"},))
    if param == "type" and code != codes.REST[1] and code != codes.ACTIVITY[1]:
        return Narrow(names=(_acts(param, code),))
    if param == "subtype" and code in codes.ACTS:
        return Narrow(names=(frozenset((f"i:{code}",)),))
    if param == "subtype" and code in _NAMED:
        return Narrow(names=(_acts(param, code),))
    return EVERYTHING


def _acts(param: str, code: str) -> Names:
    found = set()
    for name, act in codes.ACTS.items():
        coded = act.type if param == "type" else act.subtype
        if coded is not None and coded[1] == code:
            found.add(f"i:{name}")
    return frozenset(found)
