"""What a cohort step did: for the report and for the manifest of an export. No value of anybody."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.reach import GONE

from .judging import Cohort
from .shown import Shown
from .together import Together

SUPPRESSED: Final = GONE[0]


def told(cohort: Cohort) -> Json:
    """A parameter of the report."""
    shown = cohort.shown
    figures = _apart(shown) if cohort.together is None else _together(shown, cohort.together)
    part: list[Json] = [{"name": "k", "valueInteger": shown.declared.k}]
    part += [{"name": "level", "valueString": text} for text in levels(cohort)]
    part += [
        {"name": name, "part": [{"name": "count", "valueInteger": count}]}
        for name, count in figures
    ]
    return {"name": "cohort", "part": part}


def _apart(shown: Shown) -> list[tuple[str, int]]:
    codes = shown.codes.items()
    return [
        ("people", shown.people),
        ("demographicsHidden", shown.suppressed),
        ("groupsOfYears", len(shown.parts)),
        ("codes", len(shown.codes)),
        ("codesGeneralised", sum(one not in (None, key) for (_, key), one in codes)),
        ("codesHidden", sum(one is None for _, one in codes)),
        ("groupsOfValues", sum(map(len, shown.numbers.values()))),
    ]


def _together(shown: Shown, by: Together) -> list[tuple[str, int]]:
    parts, resources, kept = by.figures()
    return [
        ("people", shown.people),
        ("parts", parts),
        ("resourcesJudged", resources),
        ("resourcesShown", kept),
    ]


def levels(cohort: Cohort) -> list[str]:
    """``birthDate: 10 years``; without any everything is hidden. Where parts are on levels of
    their own, all of these: ``birthDate: 10 years, 20 years``."""
    shown = cohort.shown
    declared = shown.declared
    if cohort.together is not None:
        found: dict[str, dict[str, None]] = {one.name: {} for one in declared.quasi}
        for _, of_part in cohort.together.banded:
            for name, level in of_part:
                found[name][level] = None
        return [f"{name}: {', '.join(sorted(found[name])) or SUPPRESSED}" for name in found]
    if shown.rows is None:
        return [f"{one.name}: {SUPPRESSED}" for one in declared.quasi]
    return [f"{name}: {level}" for name, level in shown.levels]


def extension(cohort: Cohort) -> dict[str, Any]:
    """For the manifest, which everybody may read who may read the export: no counts."""
    declared = cohort.declared
    made = {"k": declared.k, "quasi": levels(cohort)}
    if cohort.together is not None:
        return made | {"together": "resources that all of a part of k have, with their means"}
    return made | {
        "dates": "years that k share, each with what it is a date of" if declared.dates else "kept",
        "codes": "codes that k have" if declared.codes else "kept",
        "values": "means of neighbours of k" if declared.values else "kept",
    }
