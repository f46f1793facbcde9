"""One walk over what a cohort is judged by: dates, codings and numbers, wherever they are.

By the definitions, as the rules go: what an element is, its type says. The walk makes a new
resource of what an ``Act`` answers; the same walk counts (and throws the copy away) and rewrites.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias

from fhir_server.model.exchange import Json
from operations.deid.elements import Elements, Field
from operations.deid.run import masked

DATES: Final = frozenset({"date", "dateTime"})
MOMENTS: Final = frozenset({"instant"})
AMOUNTS: Final = frozenset({"Quantity", "Age", "Count", "Distance", "Duration", "Money"})
NUMBERS: Final = frozenset({"decimal", "integer", "unsignedInt"})
PRINCIPAL: Final = ("code", "vaccineCode", "medicationCodeableConcept", "type", "class", "category")
"""What a resource, or a part of one, is about: the first of these that it has."""
_LEFT: Final = frozenset({"meta", "Identifier", "Narrative"})

Number: TypeAlias = Decimal | int


class Act(Protocol):
    """What to do with what is found. ``path`` tells places apart. None: it is hidden."""

    def date(self, value: str) -> str | None:
        """A date or dateTime."""

    def moment(self, value: str) -> str | None:
        """An instant."""

    def coding(self, path: str, coding: Json) -> Json | None:
        """One Coding."""

    def number(self, path: str, near: str, unit: str, value: Number) -> Number | None:
        """``near``: what the part of the resource that it stands in is about; ``unit``: with the
        comparator."""

    def series(self, value: Json) -> Json:
        """SampledData."""

    def reference(self, value: Json) -> Json | None:
        """A Reference."""


Walk: TypeAlias = Callable[[Json, str, Act], Json]
"""(source, what it is about, act) -> the new object."""
_Step: TypeAlias = Callable[[Any, str, Act, str], Any]


class Walker:
    """Walks, made when a type or a part of one is first met."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._walks: dict[tuple[str, str], Walk] = {}

    def resource(self, resource: Json, act: Act) -> Json:
        type_ = str(resource["resourceType"])
        return self._walk(type_, type_)(resource, "", act)

    def _walk(self, type_: str, content: str) -> Walk:
        found = self._walks.get((type_, content))
        if found is None:
            found = self._walks[type_, content] = self._object(type_, content)
        return found

    def _object(self, type_: str, content: str) -> Walk:
        fields = self._elements.fields(content)
        steps: dict[str, _Step | None] = {}
        prefix = content if content.startswith(type_) else f"{type_} {content}"

        def step_of(key: str) -> _Step | None:
            if key.startswith("_"):
                return _each(self._inside(type_, "Element"))
            field = fields.get(key)
            return None if field is None else self._step(field, type_, f"{prefix}.{field.name}")

        def walk(src: Json, near: str, act: Act) -> Json:
            near = about(prefix, src) or near
            where = f" {src['url']}" if content == "Extension" and "url" in src else ""
            out: Json = {}
            for key, value in src.items():
                if key not in steps:
                    steps[key] = step_of(key)
                step = steps[key]
                made = value if step is None else step(value, near, act, where)
                if made is not None and made != {}:
                    _settle(out, key, made)
            return out

        return walk

    def _step(self, field: Field, type_: str, path: str) -> _Step | None:
        """What is done with the value of a field; None: nothing."""
        if field.key == "meta" or field.type in _LEFT:
            return None
        if field.type == "Resource":
            return _each(lambda src, _near, act: self.resource(src, act))
        if field.type in DATES:
            return _hidden(lambda value, _near, act, _where: act.date(value))
        if field.type in MOMENTS:
            return _hidden(lambda value, _near, act, _where: act.moment(value))
        if field.type == "Coding":
            return _coding(path)
        if field.type == "CodeableConcept":
            return _concept(path, self._inside(type_, "Element"))
        if field.type in AMOUNTS:
            return _amount(path, self._inside(type_, field.content))
        if field.type in NUMBERS:
            return _number(path, field.required, whole=field.type != "decimal")
        if field.type == "SampledData":
            return _series
        if field.type == "Reference":
            return _reference
        return _each(self._inside(type_, field.content)) if field.content else None

    def _inside(self, type_: str, content: str) -> Walk:
        return lambda src, near, act: self._walk(type_, content)(src, near, act)


def about(path: str, part: Json) -> str:
    """What a resource or a part of one is about, as one text; "" if nothing says so."""
    for name in PRINCIPAL:
        value = part.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, dict):
            codings = value.get("coding", [value])
            named = [key_of(one) for one in codings if isinstance(one, dict) and "code" in one]
            return "\n".join([f"{path}.{name.removesuffix('CodeableConcept')}", *named])
    return ""


def key_of(coding: Json) -> str:
    """``system|code``"""
    return f"{coding.get('system', '')}|{coding.get('code', '')}"


class _Masked(dict[str, Any]):
    """The mark of a primitive that was hidden: it stands beside the name."""


def _settle(out: Json, key: str, made: Any) -> None:
    if not isinstance(made, _Masked):
        out[key] = made
        return
    beside = out.setdefault(f"_{key}", {})
    if isinstance(beside, dict):
        beside["extension"] = [*beside.get("extension", ()), *made["extension"]]


def _each(walk: Walk) -> _Step:
    def step(value: Any, near: str, act: Act, _where: str) -> Any:
        if isinstance(value, list):
            return [walk(one, near, act) if isinstance(one, dict) else one for one in value]
        return walk(value, near, act) if isinstance(value, dict) else value

    return step


def _hidden(ask: Callable[[Any, str, Act, str], Any]) -> _Step:
    """A primitive, or a list of them; where nothing is left, its mark."""

    def step(value: Any, near: str, act: Act, where: str) -> Any:
        if isinstance(value, list):
            kept = [ask(one, near, act, where) if one is not None else None for one in value]
            return kept if None not in kept or kept == value else None
        shown = ask(value, near, act, where)
        return _Masked(masked()) if shown is None else shown

    return step


def _coding(path: str) -> _Step:
    def one(value: Json, act: Act, where: str) -> Json:
        return act.coding(path + where, value) or masked()

    def step(value: Any, _near: str, act: Act, where: str) -> Any:
        if isinstance(value, list):
            return [one(some, act, where) for some in value]
        return one(value, act, where)

    return step


def _concept(path: str, beside: Walk) -> _Step:
    def one(value: Json, near: str, act: Act, where: str) -> Json:
        out = beside({k: v for k, v in value.items() if k not in ("coding", "text")}, near, act)
        asked = [act.coding(path + where, coding) for coding in value.get("coding", ())]
        kept = [coding for coding in asked if coding is not None]
        if kept:
            out["coding"] = kept
        if "text" in value and len(kept) == len(asked):
            out["text"] = value["text"]
        return out or masked()

    def step(value: Any, near: str, act: Act, where: str) -> Any:
        if isinstance(value, list):
            return [one(some, near, act, where) for some in value]
        return one(value, near, act, where)

    return step


def _amount(path: str, walk: Walk) -> _Step:
    def one(value: Json, near: str, act: Act, where: str) -> Json:
        number = value.get("value")
        inner = {k: v for k, v in value.items() if k != "value"}
        rest = walk(inner, near, act)
        if isinstance(number, bool) or not isinstance(number, int | Decimal):
            return rest
        unit = f"{value.get('comparator', '')}{value.get('code', value.get('currency', ''))}"
        shown = act.number(path + where, near, unit, number)
        return masked() if shown is None else {"value": shown, **rest}

    def step(value: Any, near: str, act: Act, where: str) -> Any:
        if isinstance(value, list):
            return [one(some, near, act, where) for some in value]
        return one(value, near, act, where)

    return step


def _number(path: str, required: bool, *, whole: bool) -> _Step:
    def ask(value: Any, near: str, act: Act, where: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return value
        shown = act.number(path + where, near, "", value)
        return shown if shown is None or not whole else int(shown)

    marked = _hidden(ask)

    def step(value: Any, near: str, act: Act, where: str) -> Any:
        made = marked(value, near, act, where)
        return made if required or not isinstance(made, _Masked) else None

    return step


def _series(value: Any, _near: str, act: Act, _where: str) -> Any:
    return act.series(value) if isinstance(value, dict) else value


def _reference(value: Any, _near: str, act: Act, _where: str) -> Any:
    if isinstance(value, list):
        return [act.reference(one) or masked() for one in value]
    return act.reference(value) or masked()
