"""Whole records that k people show alike (``"together": true`` of a ``cohort``).

People are put into parts of at least k who have much in common. Of each part only those resources
are shown that all of it have, as often as all have them, with the means of their values; of the
quasi-identifiers the finest level on which the part agrees; of the Patient besides what all say.
Nobody can be told from the others of the part then, whatever is known of them.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import log2
from typing import Final

from fhir_server.model.exchange import Json
from operations.deid.reach import HIERARCHIES, NOTHING
from operations.deid.run import Run
from operations.deid.subjects import subject_of

from .declared import Declared
from .demographics import Row, generalised, put, row_of
from .forms import Alike, Form, Sign
from .likeness import Features, likeness
from .standing import number
from .walk import Walker
from .wholes import Wholes

LABELLED: Final = frozenset({"resourceType", "id", "meta"})
APART: Final = 8
"""What is worth as much, and no date, is the same in a part if enough people say it."""
WEIGHT: Final = 8
"""Of a quasi-identifier on one level, by its worth."""
RARE: Final = 10
"""What resources weigh more that half as many people have."""


class Together:
    """The parts of one set, and what is shown of them."""

    def __init__(self, declared: Declared, walker: Walker) -> None:
        self._declared, self._walker = declared, walker
        self._wholes = Wholes()
        self._rows: dict[int, Row] = {}
        self._codes: Mapping[Sign, str | None] = {}
        self._told: dict[int, tuple[Row, tuple[tuple[str, str], ...]]] = {}
        self._agreed: dict[int, frozenset[str]] = {}
        self._part: dict[int, int] = {}
        self._figures = (0, 0)

    def close(self) -> None:
        self._wholes.close()

    def note(self, source: Json, made: Json, p: int, run: Run) -> None:
        """One resource of a person."""
        if made["resourceType"] == "Patient":
            self._rows[p] = row_of(made, self._declared.quasi)
            self._wholes.say(p, _said(self._bare(made), made))
        else:
            form = Form.of(made, _own(source, run), self._walker)
            self._wholes.note(_key(source), p, form)

    async def settle(self, codes: Mapping[Sign, str | None], people: Sequence[int]) -> None:
        """``people``: everybody, in order."""
        self._codes = codes
        await asyncio.to_thread(self._settle, people)

    def _settle(self, people: Sequence[int]) -> None:
        wholes, k = self._wholes, self._declared.k
        features = Features(people)
        self._demographic(features)
        for dated in (False, True):
            wholes.sign(self._codes, dated)
            for sign, having, p in wholes.features(k):
                features.add(sign, p, 1 + int(RARE * log2(len(people) / having)))
        for group in self._apart(people):
            first = 1 + max(self._part.values(), default=-1)
            of = likeness([features.of(p) for p in group], k)
            self._part |= {p: first + part for p, part in zip(group, of, strict=True) if part >= 0}
        wholes.part(self._part)
        wholes.keep(dated=True)
        wholes.sign(self._codes, dated=False)
        wholes.keep(dated=False)
        wholes.average()
        self._agreed = wholes.agreed()
        self._told = self._levels()
        self._figures = wholes.figures()

    def _apart(self, people: Sequence[int]) -> list[list[int]]:
        """Those who say the same in what is worth most, where they are enough; the rest."""
        of = [
            n
            for n, one in enumerate(self._declared.quasi)
            if one.worth >= APART and one.kind == "category"
        ]
        groups: dict[Row, list[int]] = {}
        for p in people:
            row = self._rows.get(p)
            groups.setdefault(() if row is None else tuple(row[n] for n in of), []).append(p)
        order = sorted(groups.values(), key=lambda group: (-len(group), group))
        while len(order) > 1 and len(order[-1]) < self._declared.k:
            few = order.pop()
            order[-1] = sorted(order[-1] + few)
        return order

    def _demographic(self, features: Features) -> None:
        """The values on each level."""
        for p, row in self._rows.items():
            for n, one in enumerate(self._declared.quasi):
                for said in {str(do(row[n])) for _, do in HIERARCHIES[one.kind][:-1]}:
                    features.add((n, said), p, one.worth * WEIGHT)

    def _levels(self) -> dict[int, tuple[Row, tuple[tuple[str, str], ...]]]:
        """Of each part the finest levels on which it agrees, and what it shows on them."""
        members: dict[int, list[Row]] = {}
        empty: Row = ("",) * len(self._declared.quasi)
        for p, part in self._part.items():
            members.setdefault(part, []).append(self._rows.get(p, empty))
        found = {}
        for part, rows in members.items():
            levels: list[tuple[str, str]] = []
            for n, one in enumerate(self._declared.quasi):
                for name, do in HIERARCHIES[one.kind]:
                    if len({str(do(row[n])) for row in rows}) == 1:
                        levels.append((one.name, name))
                        break
            told = generalised(rows[0], self._declared.quasi, levels)
            found[part] = told, tuple(levels)
        return found

    def show(self, source: Json, made: Json, p: int | None, run: Run) -> Json | None:
        """As it may be shown; None: not at all."""
        if made["resourceType"] == "Patient":
            return self._patient(made, p)
        kept = self._wholes.kept(_key(source))
        if kept is None:
            return None
        alike = Alike(_own(source, run), self._codes, kept.dated, kept.means)
        return self._walker.resource(made, alike)

    def _patient(self, made: Json, p: int | None) -> Json:
        part = None if p is None else self._part.get(p)
        quasi = self._declared.quasi
        told: Row = (NOTHING,) * len(quasi) if part is None else self._told[part][0]
        agreed = frozenset[str]() if part is None else self._agreed.get(part, frozenset())
        said = _said(self._bare(made), made)
        out = put(made, quasi, row_of(made, quasi), told)
        shown = {
            name: value
            for name, value in out.items()
            if name in LABELLED or name not in said or name in agreed
        }
        for name in [n for n in shown if n.startswith("deceased") and "=" + n not in agreed]:
            del shown[name]
            shown["deceasedBoolean"] = True
        return shown

    def _bare(self, made: Json) -> Json:
        """A Patient without its quasi-identifiers."""
        quasi = self._declared.quasi
        return put(made, quasi, row_of(made, quasi), (NOTHING,) * len(quasi))

    def figures(self) -> tuple[int, int, int]:
        """Parts; resources; those that are shown. Also when it is closed."""
        return (len(self._told), *self._figures)

    def digest(self) -> str:
        """The same where the same would be shown of the same."""
        made = blake2b(repr(sorted(self._told.items())).encode(), digest_size=16)
        for row in self._wholes.tell():
            made.update(row)
        return made.hexdigest()

    @property
    def banded(self) -> list[tuple[int, tuple[tuple[str, str], ...]]]:
        """Of each part how many people, and the level of each quasi-identifier."""
        sizes = Counter(self._part.values())
        return [(sizes[part], levels) for part, (_, levels) in sorted(self._told.items())]


def _own(source: Json, run: Run) -> tuple[str, ...]:
    """What references to the resource's patient end with."""
    subject = subject_of(source, run)
    keyed = (run.code(subject, keyed=True),) if run.key.project else ()
    return (run.code(subject), *keyed)


def _key(source: Json) -> int:
    return number(f"{source['resourceType']}/{source.get('id', '')}")


def _said(bare: Json, made: Json) -> dict[str, str]:
    """By name; what was decided of deceased is told whole too."""
    texts = {n: json.dumps(v, sort_keys=True, default=str) for n, v in bare.items()}
    texts |= {f"={n}": str(v) for n, v in made.items() if n.startswith("deceased")}
    return {name: text for name, text in texts.items() if name not in LABELLED}
