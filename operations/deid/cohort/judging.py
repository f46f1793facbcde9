"""A set in two passes: everything is noted, then rewritten by what that allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from operations.deid.elements import Elements
from operations.deid.run import Run

from . import codes
from .acts import Noting, Showing
from .census import Census, Parents
from .declared import Declared
from .demographics import Row, row_of, settled, shown_in
from .shown import Shown
from .standing import Standing, standing
from .together import Together
from .walk import Walker, about
from .years import parts

LABEL: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "ABSTRED",
    "display": "abstracted",
}
"""Of a resource that shows less than the rules would."""


async def no_parents(_system: str, _code: str) -> str | None:
    """Where no terminology is asked."""
    return None


class Cohort:
    """One set. ``note`` each resource, ``settle``, then ``show`` each. ``close`` it in the end."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.shown = Shown(declared)
        self._census = Census(declared.k)
        self._elements = Elements(load())
        self._walker = Walker(self._elements)
        self._apart = [one.path for one in declared.quasi if one.kind == "date"]
        self.together = Together(declared, self._walker) if declared.together else None

    def close(self) -> None:
        self._census.close()
        if self.together is not None:
            self.together.close()

    def digest(self) -> str:
        """The same where the same would be shown of the same."""
        if self.together is None:
            return self.shown.digest()
        return self.shown.digest() + self.together.digest()

    def note(self, source: Json, made: Json, run: Run) -> None:
        """``source``: as it is stored; ``made``: as the rules leave it."""
        whose = standing(source, run, self._elements)
        if whose.judged:
            said, rest = Noting(), self._rest(made)
            self._walker.resource(rest, said)
            row = row_of(made, self.declared.quasi) if _is_patient(made) else None
            self._census.note(whose, self._about(rest), said, row)
            if self.together is not None and whose.owner is not None:
                self.together.note(source, made, whose.owner, run)

    async def settle(self, parents: Parents = no_parents) -> Shown:
        """What may be shown. ``parents``: of codes, as far as somebody knows them."""
        census, declared = self._census, self.declared
        shown = self.shown
        rows = census.quasi()
        demographics = await asyncio.to_thread(settled, rows, declared)
        if demographics is not None:
            shown.levels, shown.rows = demographics.levels, demographics.rows
            shown.suppressed = demographics.suppressed
        people = census.years()
        shown.people = len(people)
        if self.together is not None and len(people) < declared.k:
            self.together.close()
            self.together = None  # Nothing is shown of them but that it is there.
        if self.together is not None:
            shown.codes = await codes.shown(census.codes(), declared.k, parents, alone=False)
            await self.together.settle(shown.codes, sorted(people))
            return shown
        if demographics is None:
            shown.suppressed = len(people)
        made, of = await asyncio.to_thread(parts, people, declared.k)
        shown.parts = tuple(made)
        census.keep(dict(zip(sorted(people), of, strict=True)))
        if declared.codes:
            shown.codes = await codes.shown(census.codes(), declared.k, parents)
        shown.cells = await asyncio.to_thread(census.cells, shown)
        if declared.values:
            shown.numbers = await asyncio.to_thread(census.numbers, shown)
        return shown

    def show(self, source: Json, made: Json, run: Run) -> Json | None:
        """The resource as it may be shown; None: not at all."""
        whose = standing(source, run, self._elements)
        if not whose.judged:
            return made
        if self.together is not None:
            out = self.together.show(source, made, whose.owner, run)
            return out if out is None or out == made else _labelled(out)
        rest = self._rest(made)
        said = Noting()
        self._walker.resource(rest, said)
        years = self._years(whose)
        cell = self.shown.cell(self._about(rest), said.years, years)
        out = self._walker.resource(rest, Showing(self.shown, years, cell))
        if _is_patient(made):
            row: Row = row_of(made, self.declared.quasi)
            apart = {key: made[key] for key in made if key not in rest}
            out = shown_in({**out, **apart}, row, self.shown)
        return out if out == made else _labelled(out)

    def _years(self, whose: Standing) -> frozenset[int]:
        part = None if whose.owner is None else self._census.part_of(whose.owner)
        return frozenset() if part is None else self.shown.parts[part]

    def _rest(self, made: Json) -> Json:
        """Without dates that are quasi-identifiers, which are judged by themselves."""
        if not _is_patient(made) or not self._apart:
            return made
        return {key: value for key, value in made.items() if key not in self._apart}

    def _about(self, made: Json) -> str:
        type_ = str(made["resourceType"])
        return about(type_, made) or type_


def _is_patient(resource: Json) -> bool:
    return bool(resource["resourceType"] == "Patient")


def _labelled(resource: Json) -> Json:
    meta: dict[str, Any] = resource.get("meta", {})
    present: Sequence[Json] = meta.get("security", ())
    if any(one.get("code") == LABEL["code"] for one in present):
        return resource
    return {**resource, "meta": {**meta, "security": [*present, dict(LABEL)]}}
