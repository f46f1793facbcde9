"""What a cohort step did: for the report and for the manifest of an export. No value of anybody."""

from __future__ import annotations

from typing import Any

from fhir_server.model.exchange import Json

from .shown import Shown


def told(shown: Shown) -> Json:
    """A parameter of the report."""
    codes = shown.codes.items()
    figures = [
        ("people", shown.people),
        ("demographicsHidden", shown.suppressed),
        ("groupsOfYears", len(shown.parts)),
        ("codes", len(shown.codes)),
        ("codesGeneralised", sum(one not in (None, key) for (_, key), one in codes)),
        ("codesHidden", sum(one is None for _, one in codes)),
        ("groupsOfValues", sum(map(len, shown.numbers.values()))),
    ]
    part: list[Json] = [{"name": "k", "valueInteger": shown.declared.k}]
    part += [{"name": "level", "valueString": text} for text in levels(shown)]
    part += [
        {"name": name, "part": [{"name": "count", "valueInteger": count}]}
        for name, count in figures
    ]
    return {"name": "cohort", "part": part}


def levels(shown: Shown) -> list[str]:
    """``birthDate: 10 years``; without any everything is hidden."""
    declared = shown.declared
    if shown.rows is None:
        return [f"{one.name}: suppressed" for one in declared.quasi]
    return [f"{name}: {level}" for name, level in shown.levels]


def extension(shown: Shown) -> dict[str, Any]:
    """For the manifest, which everybody may read who may read the export: no counts."""
    declared = shown.declared
    return {
        "k": declared.k,
        "quasi": levels(shown),
        "dates": "years that k share, each with what it is a date of" if declared.dates else "kept",
        "codes": "codes that k have" if declared.codes else "kept",
        "values": "means of neighbours of k" if declared.values else "kept",
    }
