"""The ``cohort`` of a profile: how many people have to look alike, and in what.

``k``: the size of the smallest group. ``quasi``: what of a Patient others may know, each a
``path`` (an element name, dotted; ``deceased[x]`` for any type of value) or an ``extension`` (its
URL), with a ``kind``: date, postal-code or category, and what it is ``worth`` to who works with the
data (1 to 100). ``suppress``: the share of patients whose
``quasi`` may go so that those of the others can stay. ``dates``, ``codes``, ``values``: false
leaves these as the rules have left them. ``together``: true: the k people look alike in all of it
together, whole records (``together.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import prod
from typing import Any, Final

from operations.deid.reach import HIERARCHIES, MOST

KINDS: Final = ("date", "postal-code", "category")
MOST_K: Final = 1000
_FIELDS: Final = frozenset({"k", "quasi", "suppress", "dates", "codes", "values", "together"})
_SHARE: Final = Fraction(1, 20)


@dataclass(frozen=True, slots=True)
class Quasi:
    """One quasi-identifier of a Patient: ``path`` or, of an ``extension``, its URL."""

    path: str
    kind: str
    extension: bool = False
    worth: int = 1

    @property
    def name(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Declared:
    """What a profile declares about sets of patients."""

    k: int
    quasi: tuple[Quasi, ...]
    suppress: Fraction = _SHARE
    dates: bool = True
    codes: bool = True
    values: bool = True
    together: bool = False


def declared(given: Any, findings: list[str]) -> Declared | None:
    """Of a profile's ``cohort``; what is wrong with it is added to ``findings``."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        findings.append("cohort: an object")
        return None
    findings += [f"cohort: knows no {name}" for name in sorted(set(given) - _FIELDS)]
    k, share = given.get("k"), given.get("suppress", Decimal("0.05"))
    if type(k) is not int or not 2 <= k <= MOST_K:
        findings.append(f"cohort.k: a whole number, 2 to {MOST_K}")
        k = MOST_K
    if (
        isinstance(share, bool)
        or not isinstance(share, int | float | Decimal)
        or not 0 <= share <= 1
    ):
        findings.append("cohort.suppress: a share, 0 to 1")
        share = 0
    flags = {name: given.get(name, True) for name in ("dates", "codes", "values")}
    flags["together"] = given.get("together", False)
    findings += [f"cohort.{n}: true or false" for n, v in flags.items() if not isinstance(v, bool)]
    if flags["together"] is True and not all(flags.values()):
        findings.append("cohort.together: is of dates, codes and values")
    quasi = given.get("quasi", [])
    if not isinstance(quasi, list):
        findings.append("cohort.quasi: a list")
        quasi = []
    made = tuple(_quasi(n, one, findings) for n, one in enumerate(quasi))
    if prod(len(HIERARCHIES[one.kind]) for one in made) > MOST:
        findings.append("cohort.quasi: too many of them")
    return Declared(k, made, Fraction(str(share)), **flags)


def _quasi(number: int, one: Any, findings: list[str]) -> Quasi:
    if isinstance(one, Mapping) and len({"path", "extension"} & set(one)) == 1:
        extension = "extension" in one
        path = one["extension"] if extension else one["path"]
        kind, worth = one.get("kind", "category"), one.get("worth", 1)
        known = set(one) <= {"path", "extension", "kind", "worth", "why"}
        sound = isinstance(path, str) and path and type(worth) is int and 1 <= worth <= 100
        if known and sound and kind in KINDS:
            return Quasi(path, kind, extension, worth)
    kinds = ", ".join(KINDS)
    findings.append(f"cohort.quasi {number}: path or extension, kind ({kinds}), worth (1 to 100)")
    return Quasi("", "category")
