"""The quasi-identifiers of patients: read from, and put back into, a de-identified Patient."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.elements import Elements
from operations.deid.reach import HIERARCHIES, KEPT, NOTHING, Level, reach
from operations.deid.run import masked

from .declared import Declared, Quasi
from .shown import Shown
from .sizes import kept

RANGE: Final = "urn:vehr:fhir:StructureDefinition:generalised-to"
"""Extension: the period that stands in place of a date."""
_ANY: Final = "[x]"
Row = tuple[str, ...]


def misnamed(declared: Declared, elements: Elements) -> list[str]:
    """Paths that a Patient has not."""
    return [
        f"cohort.quasi: Patient.{one.path} finds no element"
        for one in declared.quasi
        if not one.extension and not _is_there("Patient", one.path.split("."), elements)
    ]


def _is_there(content: str, steps: Sequence[str], elements: Elements) -> bool:
    fields = elements.fields(content)
    if steps[0].endswith(_ANY):
        name = steps[0].removesuffix(_ANY)
        return len(steps) == 1 and any(f.name == name != f.key for f in fields.values())
    field = fields.get(steps[0])
    if field is None:
        return False
    return len(steps) == 1 or (
        bool(field.content) and _is_there(field.content, steps[1:], elements)
    )


def row_of(patient: Json, quasi: Sequence[Quasi]) -> Row:
    """What a Patient says of each, "" for nothing."""
    return tuple(_said(patient, one) for one in quasi)


def _said(patient: Json, one: Quasi) -> str:
    if one.extension:
        found = [e for e in patient.get("extension", ()) if e.get("url") == one.path]
        return _text(found) if found else ""
    if one.path.endswith(_ANY):
        name = one.path.removesuffix(_ANY)
        values = (v for k, v in patient.items() if k.startswith(name) and k != name)
        return "true" if any(v is not False for v in values) else ""
    return "|".join(sorted(_text(v) for v in _values(patient, one.path.split("."))))


def _values(node: Any, steps: Sequence[str]) -> Iterable[Any]:
    if isinstance(node, list):
        for item in node:
            yield from _values(item, steps)
    elif not steps:
        yield node
    elif isinstance(node, dict) and steps[0] in node:
        yield from _values(node[steps[0]], steps[1:])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class Settled:
    """``levels``: (name, level) of each; ``rows``: what is hidden as a whole; ``suppressed``:
    how many patients that are."""

    levels: tuple[tuple[str, str], ...]
    rows: frozenset[Row]
    suppressed: int


def settled(rows: Sequence[Row], declared: Declared) -> Settled | None:
    """None: they are fewer than k, all is hidden."""
    if not declared.quasi:
        return Settled((), frozenset(), 0)
    sizes = Counter(rows)
    hierarchies = [
        _telling([row[n] for row in sizes], HIERARCHIES[one.kind])
        for n, one in enumerate(declared.quasi)
    ]
    order = sorted(sizes)
    weights = [sizes[row] for row in order]
    worth = [one.worth for one in declared.quasi]
    reached = reach(order, hierarchies, declared.k, declared.suppress, weights, worth)
    if reached is None:
        return None
    names = [one.name for one in declared.quasi]
    levels = tuple(zip(names, reached.levels, strict=True))
    made = [generalised(row, declared.quasi, levels) for row in order]
    groups: dict[Row, set[int]] = {}
    told = 0
    for row, weight in zip(made, weights, strict=True):
        groups.setdefault(row, set()).update(range(told, told + weight))
        told += weight
    stay = kept(groups, declared.k)
    hidden = frozenset(row for row in groups if row not in stay)
    return Settled(levels, hidden, sum(len(groups[row]) for row in hidden))


def _telling(values: Sequence[Hashable], levels: Sequence[Level]) -> list[Level]:
    """Without those that are the same as the level before."""
    found: list[Level] = [KEPT]
    last: list[Hashable] = list(values)
    for name, do in levels[1:]:
        made = [_each(do, value) for value in values]
        if made != last:
            found.append((name, partial(_each, do)))
        last = made
    return found


def _each(do: Callable[[Hashable], Hashable], value: Hashable) -> Hashable:
    """Of several values each."""
    return "|".join(dict.fromkeys(str(do(one)) for one in str(value).split("|")))


def generalised(row: Row, quasi: Sequence[Quasi], levels: Sequence[tuple[str, str]]) -> Row:
    """On the levels that were chosen."""
    made = []
    for value, one, (_, level) in zip(row, quasi, levels, strict=True):
        do = next(do for name, do in HIERARCHIES[one.kind] if name == level)
        made.append(str(_each(do, value)))
    return tuple(made)


def shown_in(patient: Json, row: Row, by: Shown) -> Json:
    """The Patient with each quasi-identifier as it may be shown. ``row``: what it said before."""
    quasi = by.declared.quasi
    if not quasi:
        return patient
    told: Row = (NOTHING,) * len(quasi)
    if by.rows is not None:
        told = generalised(row, quasi, by.levels)
        if told in by.rows:
            told = (NOTHING,) * len(quasi)
    return put(patient, quasi, row, told)


def put(patient: Json, quasi: Sequence[Quasi], row: Row, told: Row) -> Json:
    """The Patient, who says ``row``, saying ``told`` instead."""
    out = dict(patient)
    for one, before, after in zip(quasi, row, told, strict=True):
        if after != before:
            _put(out, one, after)
    return out


def _put(patient: Json, one: Quasi, after: str) -> None:
    if one.extension:
        patient["extension"] = [e for e in patient["extension"] if e.get("url") != one.path] \
            if "extension" in patient else []  # fmt: skip
        if not patient["extension"]:
            del patient["extension"]
        return
    if one.path.endswith(_ANY):
        name = one.path.removesuffix(_ANY)
        for key in [k for k in patient if k.lstrip("_").startswith(name)]:
            del patient[key]
        return
    steps = one.path.split(".")
    _replace(patient, steps, one, after)


def _replace(node: Json, steps: Sequence[str], one: Quasi, after: str) -> None:
    """A new value at the end of the path, in copies of what leads there."""
    name = steps[0]
    if len(steps) > 1:
        inner = node.get(name)
        if isinstance(inner, dict | list):
            several = inner if isinstance(inner, list) else [inner]
            copies = [dict(part) if isinstance(part, dict) else part for part in several]
            for part in copies:
                if isinstance(part, dict):
                    _replace(part, steps[1:], one, after)
            node[name] = copies if isinstance(inner, list) else copies[0]
        return
    value = node.pop(name, None)
    if after != NOTHING and one.kind == "postal-code" and isinstance(value, str):
        node[name] = value[: len(after.partition("|")[0])]
    elif after != NOTHING and one.kind == "date" and "-" not in after:
        node[name] = after
    elif isinstance(value, str) or value is None:
        node["_" + name] = _mark(after)
    elif isinstance(value, dict):
        node[name] = masked()


def _mark(after: str) -> Json:
    mark = masked()
    low, _, high = after.partition("-")
    if len(low) == len(high) == 4:
        period = {"start": low, "end": high}
        mark["extension"].append({"url": RANGE, "valuePeriod": period})
    return mark
