"""How much each agreement says: log2 of how much likelier it is of one person than of two.

After I. Fellegi and A. Sunter, A Theory for Record Linkage (1969). The figures are judgement:
an agreement on a name that one person in 500 bears weighs about 9, a birth date among those
of 30 years about 13; what one person's records rarely differ in weighs against.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .person import Name, Person, Place, Word
from .spelling import skeleton

Grade = Literal["certain", "probable", "possible"]

WEIGHTS: Final[dict[str, dict[str, float]]] = {
    "family": {"same": 9.0, "close": 5.5, "different": -5.0},
    "given": {"same": 6.5, "close": 4.0, "initial": 1.5, "different": -5.0},
    "further": {"same": 5.0, "close": 3.0, "initial": 1.0, "different": -3.5},
    "swapped": {"swapped": -1.0},
    "birthDate": {
        "same": 13.0, "month": 8.0, "year": 5.0, "transposed": 9.0, "typo": 7.0,
        "near": 4.0, "different": -7.0,
    },
    "gender": {"same": 1.0, "different": -4.0},
    "identifier": {"same": 20.0, "value": 12.0, "typo": 8.0, "different": -4.0},
    "contact": {"same": 8.0, "different": -0.5},
    "address": {"line": 5.0, "postal": 4.0, "city": 2.0, "different": -0.5},
}  # fmt: skip
"""Field -> how it compares -> weight. A field that either side lacks weighs nothing."""

EVEN: Final = 15.0
"""The weight at which a match is as likely as not, where the score is 0.5."""
SCALE: Final = 3.0
GRADES: Final[tuple[tuple[Grade, float], ...]] = (
    ("certain", 25.0),
    ("probable", 18.0),
    ("possible", 11.0),
)
"""Least weight of each grade."""
DOUBTS: Final[dict[tuple[str, str], Grade]] = {
    ("given", "different"): "possible",
    ("birthDate", "different"): "possible",
    ("gender", "different"): "probable",
    ("family", "different"): "probable",
    ("further", "different"): "probable",
    ("identifier", "different"): "probable",
}
"""What keeps a match from a better grade, however much else agrees: twins, parents, spouses."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``found``: field -> how it compares."""

    found: dict[str, str]

    @property
    def weight(self) -> float:
        return sum(WEIGHTS[field][level] for field, level in self.found.items())

    @property
    def score(self) -> float:
        """0 to 1: a logistic function of the weight."""
        return round(float(1 / (1 + 2 ** ((EVEN - self.weight) / SCALE))), 4)

    @property
    def grade(self) -> Grade | None:
        """None: no match."""
        limits = dict(GRADES)
        for field, level in self.found.items():
            doubt = DOUBTS.get((field, level))
            for name, _ in GRADES:
                if doubt is None or name == doubt:
                    break
                limits.pop(name, None)
        if self.found.get("identifier") != "same" and len(self.found) < 3:
            limits.pop("certain", None)
        return next((name for name, least in limits.items() if self.weight >= least), None)


def compare(one: Person, other: Person) -> Comparison:
    """Field by field; of several names, addresses and identifiers the best pair counts."""
    found = _names(one, other)
    if one.birth and other.birth:
        found["birthDate"] = _birth(one.birth, other.birth)
    genders = {one.gender, other.gender}
    if genders <= {"male", "female"}:
        found["gender"] = "same" if len(genders) == 1 else "different"
    if one.identifiers and other.identifiers:
        level = _identifiers(one.identifiers, other.identifiers)
        found |= {"identifier": level} if level else {}
    if one.contacts and other.contacts:
        found["contact"] = "same" if one.contacts & other.contacts else "different"
    if one.places and other.places:
        found["address"] = _best(
            "address", (_places(a, b) for a in one.places for b in other.places)
        )
    return Comparison(found)


def _best(field: str, levels: Iterable[str]) -> str:
    return max(levels, key=lambda level: WEIGHTS[field][level])


def _names(one: Person, other: Person) -> dict[str, str]:
    pairs = [_name(a, b) for a in one.names for b in other.names]
    return max(pairs, key=lambda found: Comparison(found).weight, default={})


def _name(one: Name, other: Name) -> dict[str, str]:
    if one.loose or other.loose:
        return _loose(one.all, other.all)
    straight = _roles(one, other)
    crossed = _roles(Name(one.given[:1], one.family, ()), other)
    if not one.family or not one.given or not other.family or not other.given:
        return straight
    crossed["swapped"] = "swapped"
    return max(straight, crossed, key=lambda found: Comparison(found).weight)


def _roles(one: Name, other: Name) -> dict[str, str]:
    found: dict[str, str] = {}
    if one.family and other.family:
        found["family"] = _family(one.family, other.family)
    for field, a, b in zip(("given", "further"), one.given, other.given, strict=False):
        found[field] = alike(a, b)
    return found


def _family(one: Sequence[Word], other: Sequence[Word]) -> str:
    """Of a double name one part may be missing."""
    levels = [[alike(a, b) for b in other] for a in one]
    same = sum("same" in row for row in levels)
    if same == len(one) == len(other):
        return "same"
    return "close" if same or any("close" in row for row in levels) else "different"


def _loose(one: Sequence[Word], other: Sequence[Word]) -> dict[str, str]:
    """Words without roles: the best partners first."""
    found: dict[str, str] = {}
    left, right = list(one), list(other)
    for field in ("family", "given", "further"):
        pairs = [(alike(a, b), a, b) for a in left for b in right]
        if not pairs:
            break
        level, a, b = max(pairs, key=lambda pair: _ORDER[pair[0]])
        found[field] = level if level in WEIGHTS[field] else "different"
        left.remove(a)
        right.remove(b)
    return found


_ORDER: Final = {"same": 3, "close": 2, "initial": 1, "different": 0}


def alike(one: Word, other: Word) -> str:
    """same, close (a slip or two), initial, or different."""
    if set(one) & set(other):
        return "same"
    return max((_alike(a, b) for a in one for b in other), key=_ORDER.__getitem__)


def _alike(one: str, other: str) -> str:
    if min(len(one), len(other)) == 1:
        return "initial" if one[0] == other[0] else "different"
    longest = max(len(one), len(other))
    slips = distance(one, other, 2)
    if (slips == 1 and longest >= 4) or (slips == 2 and longest >= 7):
        return "close"
    bones = skeleton(one)
    return "close" if len(bones) >= 3 and bones == skeleton(other) and slips <= 2 else "different"


def distance(one: str, other: str, most: int) -> int:
    """Letters inserted, left out, replaced or exchanged with their neighbour; at most
    ``most + 1``."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return min(last[-1], most + 1)


def _birth(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    shared = min(len(one), len(other))
    if one[:shared] == other[:shared]:
        return ("year", "month", "same")[shared - 1]
    if shared < 3:
        return "different"
    if (one[0], one[1], one[2]) == (other[0], other[2], other[1]):
        return "transposed"
    if distance("".join(one), "".join(other), 1) == 1:
        return "typo"
    return "near" if sum(a == b for a, b in zip(one, other, strict=True)) == 2 else "different"


def _identifiers(one: Iterable[tuple[str, str]], other: Iterable[tuple[str, str]]) -> str | None:
    """None where nothing can be said: other systems."""
    levels = [_identifier(a, b) for a in one for b in other]
    known = [level for level in levels if level]
    return _best("identifier", known) if known else None


def _identifier(one: tuple[str, str], other: tuple[str, str]) -> str | None:
    (system, value), (its_system, its_value) = one, other
    if value == its_value:
        return "same" if system and system == its_system else "value"
    if not system or system != its_system:
        return None
    slip = len(value) >= 6 and distance(value, its_value, 1) == 1
    return "typo" if slip else "different"


def _places(one: Place, other: Place) -> str:
    if one.lines and one.lines == other.lines and (one.city & other.city or not one.city):
        return "line"
    if one.postal and one.postal == other.postal:
        return "postal"
    return "city" if one.city & other.city else "different"
