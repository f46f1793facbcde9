"""Closures that carry one JSON property from the source object to the result.

A value that goes leaves nothing, except where the definitions require the element or the
rule asks for a mark: there a data-absent-reason ``masked`` stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable
from operations.deid.elements import Elements, Field
from operations.deid.run import DATA_ABSENT_REASON, DROP, MASKED, Outcome, Run, Tally, Touch, masked
from operations.deid.transforms.base import Leaf

Handler: TypeAlias = Callable[[Json, Json, Run], None]
"""(source object, result object, run)"""

Walk: TypeAlias = Callable[[Json, Run], Json]
"""(source object, run) -> result object, empty if nothing stays."""

_NUMBERS: Final = frozenset(("integer", "positiveInt", "unsignedInt"))


_UNKNOWN: Final = Touch(None, "(unknown)", "removed")


def is_typed(type_: str) -> Callable[[Any], bool]:
    """Has a value the JSON type of this primitive? https://hl7.org/fhir/R4/json.html#primitive"""
    if type_ == "boolean":
        return lambda value: isinstance(value, bool)
    if type_ in _NUMBERS:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if type_ == "decimal":
        return lambda value: isinstance(value, Decimal | int) and not isinstance(value, bool)
    return lambda value: isinstance(value, str)


def misshapen(path: str) -> Unprocessable:
    """``path``: from the type that defines the element."""
    return Unprocessable("not the JSON type of this element", code="structure", expression=path)


def as_object(value: Any, path: str) -> Json:
    if not isinstance(value, dict):
        raise misshapen(path)
    return value


def as_list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise misshapen(path)
    return value


def unknown(_src: Json, _out: Json, run: Run) -> None:
    """A property that the definitions do not have."""
    run.at.counts[_UNKNOWN] += 1


class Spot(NamedTuple):
    """A primitive element: its field, its path from the type that defines it, and the number of
    the rule that decides (None: the default). ``owned``: a rule above answers for it, nothing
    is counted here."""

    field: Field
    path: str
    rule: int | None
    leave: bool
    owned: bool


Judge: TypeAlias = Callable[[Any, Json, Run], Any]


def judge(spot: Spot, leaf: Leaf) -> Judge:
    """The leaf with its type check and its tally."""
    typed, path, name = is_typed(spot.field.type), spot.path, spot.field.name
    removed, changed, kept = (Touch(spot.rule, name, w) for w in ("removed", "changed", "kept"))
    left = MASKED if spot.leave else DROP

    def decide(value: Any, around: Json, run: Run) -> Any:
        if not typed(value):
            raise misshapen(path)
        result = leaf(value, around, run)
        if isinstance(result, Outcome):
            run.at.counts[removed] += 1
            return left if result is DROP else result
        run.at.counts[kept if result is value or result == value else changed] += 1
        return result

    def pass_on(value: Any, _around: Json, _run: Run) -> Any:
        if not typed(value):
            raise misshapen(path)
        return value

    return pass_on if spot.owned else decide


def primitive(spot: Spot, leaf: Leaf, side: Walk) -> Handler:
    """``key`` and ``_key`` of a primitive; ``side`` walks id and extensions."""
    decide = judge(spot, leaf)
    key, under, path = spot.field.key, "_" + spot.field.key, spot.path
    side = _within(spot.field.name, side)

    def pair(value: Any, beside: Any, around: Json, run: Run) -> tuple[Any, Json]:
        result = DROP if value is None else decide(value, around, run)
        extra = side(as_object(beside, path), run) if beside is not None else {}
        if result is MASKED:
            extra["extension"] = [*extra.get("extension", ()), *masked()["extension"]]
        return (None if isinstance(result, Outcome) else result), extra

    def one(src: Json, out: Json, run: Run) -> None:
        value, extra = pair(src.get(key), src.get(under), src, run)
        if value is not None:
            out[key] = value
        if extra:
            out[under] = extra

    def many(src: Json, out: Json, run: Run) -> None:
        values = as_list(src.get(key) or [], path)
        beside = as_list(src.get(under) or [], path)
        length = max(len(values), len(beside))
        values, beside = _padded(values, length), _padded(beside, length)
        pairs = [pair(v, b, src, run) for v, b in zip(values, beside, strict=True)]
        pairs = [(value, extra) for value, extra in pairs if value is not None or extra]
        if any(value is not None for value, _ in pairs):
            out[key] = [value for value, _ in pairs]
        if any(extra for _, extra in pairs):
            out[under] = [extra or None for _, extra in pairs]

    return many if spot.field.many else one


def _padded(values: list[Any], length: int) -> list[Any]:
    return values + [None] * (length - len(values))


def complex_(field: Field, path: str, walk: Walk, leave: bool) -> Handler:
    """A complex element. A modifier extension that goes leaves a masked one: that the meaning
    is modified must stay visible."""
    key = field.key
    walk = _within(field.name, walk)
    modifier = key == "modifierExtension"

    def one(src: Json, out: Json, run: Run) -> None:
        result = walk(as_object(src[key], path), run)
        if result:
            out[key] = result
        elif leave:
            out[key] = masked()

    def many(src: Json, out: Json, run: Run) -> None:
        items = as_list(src[key], path)
        results = [walk(as_object(item, path), run) for item in items]
        kept = [result for result in results if result]
        if modifier and len(kept) < len(items):
            kept.append({"url": DATA_ABSENT_REASON, "valueCode": "masked"})
        if not kept and leave:
            kept.append(masked())
        if kept:
            out[key] = kept

    return many if field.many else one


def _within(name: str, walk: Walk) -> Walk:
    """The walk, its counts kept below the element's name."""

    def step(src: Json, run: Run) -> Json:
        above = run.at
        run.at = above.at(name)
        result = walk(src, run)
        run.at = above
        return result

    return step


def dropping(rule: int | None) -> Walk:
    removed = Touch(rule, "", "removed")

    def drop(_src: Json, run: Run) -> Json:
        run.at.counts[removed] += 1
        return {}

    return drop


def owning(rule: int | None, inner: Walk | None, node: Walk) -> Walk:
    """A method that answers for a whole complex value; the tally names the children it took."""

    def own(src: Json, run: Run) -> Json:
        walked = src if inner is None else inner(src, run)
        result = node(walked, run) if walked else {}
        counts = run.at.counts
        for key, value in walked.items():
            if key not in result:
                counts[Touch(rule, key, "removed")] += 1
            else:
                counts[Touch(rule, key, "kept" if result[key] == value else "changed")] += 1
        return result

    return own


def whole_extension(rule: int | None, walk: Walk) -> Walk:
    """An extension without its url, or with nothing else, says nothing: it goes as a whole."""
    removed = Touch(rule, "", "removed")

    def whole(src: Json, run: Run) -> Json:
        outer, run.at = run.at, Tally()
        result = walk(src, run)
        inner, run.at = run.at, outer
        if "url" in result and len(result) > 1:
            outer.absorb(inner)
            return result
        outer.counts[removed] += 1
        return {}

    return whole


def fillers(fields: Mapping[str, Field], elements: Elements) -> list[Handler]:
    """For each required element: put a masked one into the result if the source had it."""
    groups: dict[str, list[Field]] = {}
    for field in fields.values():
        if field.required and field.type != "Resource":
            groups.setdefault(field.name, []).append(field)
    return [_filler(tuple(group), elements) for group in groups.values()]


def _filler(choices: tuple[Field, ...], elements: Elements) -> Handler:
    keys = [(field, field.key, "_" + field.key) for field in choices]

    def fill(src: Json, out: Json, _run: Run) -> None:
        present = None
        for field, key, under in keys:
            if key in out or under in out:
                return
            if key in src or under in src:
                present = field
        if present is not None:
            place(present, out, elements)

    return fill


def place(field: Field, out: Json, elements: Elements) -> None:
    """A masked element of this field, with what it must contain in turn."""
    if not field.content:
        key, filler = "_" + field.key, masked()
    else:
        key, filler = field.key, {}
        named: set[str] = set()
        for child in elements.fields(field.content).values():
            if child.required and child.name not in named:
                named.add(child.name)
                place(child, filler, elements)
        filler = filler or masked()
    out[key] = [filler] if field.many else filler
