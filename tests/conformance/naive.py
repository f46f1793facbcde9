"""A naive reading of search: every parameter's FHIRPath expression over all resources.

Values that occur are asked for, with each modifier and prefix that can be judged without
terminology; what is expected follows from the plainest reading of
https://hl7.org/fhir/R4/search.html#ptypes. Nothing of ``fhir_server.search`` is used but ``fold``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import acos, cos, radians, sin
from typing import Any, NamedTuple
from urllib.parse import quote

from fhir_server.definitions.elements import SearchParameter
from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import load
from fhir_server.fhirpath import Context, Services, compile
from fhir_server.search.values import fold
from tests.conformance.naive_numbers import (
    Asked,
    Json,
    Row,
    Values,
    ask_dates,
    ask_numbers,
    ask_quantities,
    escaped,
    missing,
    picked,
    some,
)


class Question(NamedTuple):
    """``Type?code:modifier=value`` and the ids that it finds."""

    query: str
    expected: set[str]


def resolve(reference: str) -> Json | None:
    """Enough for ``resolve() is Patient``."""
    type_ = reference.split("/")[0]
    return {"resourceType": type_} if type_ in load().resource_types else None


CONTEXT = Context(model=r4_model(), services=Services(resolve=resolve))


def questions(type_: str, resources: list[Json], listed: Iterable[str]) -> Iterator[Question]:
    """Of one type; ``listed``: the codes that the CapabilityStatement has for it."""
    known = set(listed)
    for code, parameter in load().search_parameters(type_).items():
        if code not in known or code.startswith("_"):
            continue
        if parameter.type == "composite":
            rows = [(r["id"], pairs(parameter, r)) for r in resources]
        elif parameter.type == "special":
            rows = [(r["id"], [r["position"]] if "position" in r else []) for r in resources]
        else:
            path = compile(parameter.expression or "")
            rows = [(r["id"], list(path.evaluate(r, CONTEXT))) for r in resources]
        for asked in ASK[parameter.type](rows, parameter):
            expected = {id_ for id_, values in rows if asked.holds(values)}
            name = f"{code}{asked.modifier}"
            yield Question(f"{type_}?{name}={quote(asked.value, safe='')}", expected)


# --- token -------------------------------------------------------------------------------


def tokens(value: Any) -> Iterator[tuple[str, str]]:
    """(system, code) pairs; a code or boolean alone has no system here."""
    if isinstance(value, bool):
        yield "", "true" if value else "false"
    elif isinstance(value, str):
        yield "", value
    elif isinstance(value, dict):
        for coding in value.get("coding", [value]):
            code = coding.get("code") or coding.get("value")
            # The system of a ContactPoint (phone, email) is a code, not a namespace.
            system = coding.get("system", "")
            if code:
                yield system if ":" in system else "", code


def same(one: str, other: str, system: str) -> bool:
    """Case matters in the codes of a system that says so; else it is in doubt."""
    if load().code_system_case_sensitive(system):
        return one == other
    return one.casefold() == other.casefold()


def systems(value: Any) -> set[str]:
    """Also of a coding without a code."""
    if not isinstance(value, dict):
        return set()
    return {coding.get("system", "") for coding in value.get("coding", [value])}


def texts(value: Any) -> Iterator[str]:
    """What ``:text`` looks at: CodeableConcept.text, Coding.display, Identifier.type.text."""
    if isinstance(value, dict):
        concept = value.get("type") if isinstance(value.get("type"), dict) else value
        if isinstance(concept, dict):
            if isinstance(concept.get("text"), str):
                yield concept["text"]
            for coding in concept.get("coding", [concept] if "display" in concept else []):
                if "display" in coding:
                    yield coding["display"]


def ask_tokens(rows: list[Row], _: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)
    for system, code in picked(rows, tokens):
        said = escaped(code)

        def has(value: Any, system: str = system, code: str = code, any_: bool = False) -> bool:
            return any(
                same(c, code, "" if any_ else s) and (any_ or not system or s == system)
                for s, c in tokens(value)
            )

        text = f"{escaped(system)}|{said}" if system else said
        yield Asked("", text, some(has))
        yield Asked("", said, some(lambda v, has=has: has(v, any_=True)))
        yield Asked(":not", text, lambda values, has=has: not any(map(has, values)))
        if system:
            yield Asked("", f"{escaped(system)}|", some(
                lambda v, s=system: s in systems(v)))  # fmt: skip
            yield Asked("", f"{text},{said}x", some(has))


# --- string, uri, reference --------------------------------------------------------------


STRINGS = ("text", "family", "given", "prefix", "suffix", "line", "city", "district", "state",
           "country", "postalCode")  # fmt: skip


def strings(value: Any) -> Iterator[str]:
    yield from flat(value, *STRINGS)


def flat(value: Any, *names: str) -> Iterator[str]:
    """The text of a value: itself, or its members of these names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name in names:
            inner = value.get(name)
            yield from inner if isinstance(inner, list) else [inner] if inner else []


def beginnings(value: Any, code: str) -> Iterator[str]:
    """What may begin as is asked: also each part of a family name."""
    yield from strings(value)
    for family in flat(value, "family") if isinstance(value, dict) or code == "family" else ():
        yield from family.replace("-", " ").split()


def ask_strings(rows: list[Row], parameter: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)

    def starts(value: Any) -> Iterator[str]:
        return beginnings(value, parameter.code)

    for text in picked(rows, strings):
        start, middle = text[:4].strip(), text[1:5].strip()
        if not fold(middle):
            continue
        yield Asked("", escaped(start), some(
            lambda v, s=start: any(fold(t).startswith(fold(s)) for t in starts(v))))  # fmt: skip
        yield Asked(":contains", escaped(middle), some(
            lambda v, s=middle: any(fold(s) in fold(t) for t in strings(v))))  # fmt: skip
        yield Asked(":exact", escaped(text), some(lambda v, s=text: s in strings(v)))
        yield Asked(":exact", escaped(start), some(lambda v, s=start: s in strings(v)))


def ask_uris(rows: list[Row], _: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)
    for text in picked(rows, lambda value: [value] if isinstance(value, str) else []):
        yield Asked("", escaped(text), lambda values, u=text: u in values)
        if "://" in text and "|" not in text:
            above = text.rpartition("/")[0]
            yield Asked(":below", escaped(above), some(
                lambda v, u=above: v == u or str(v).startswith(u + "/")))  # fmt: skip
            yield Asked(":above", escaped(f"{text}/x"), some(
                lambda v, u=text: f"{u}/x/".startswith(f"{v}/")))  # fmt: skip


def references(value: Any) -> Iterator[str]:
    yield from flat(value, "reference")


def ask_references(rows: list[Row], parameter: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)
    for text in picked(rows, references):
        to = text.partition("/")[0]
        if text.startswith("#") or (
            to in load().resource_types and parameter.targets and to not in parameter.targets
        ):
            continue  # contained, or of a type that the parameter does not lead to

        def leads(value: Any, text: str = text) -> bool:
            return text in (
                r.partition("|")[0] if "|" not in text else r for r in references(value)
            )

        yield Asked("", escaped(text), some(leads))
        type_, _, id_ = text.partition("/")
        if type_ in load().resource_types and "/" not in id_:
            yield Asked(f":{type_}", id_, some(leads))
            yield Asked("", id_, some(
                lambda v, i=id_: i in {r.rpartition("/")[2] for r in references(v)}))  # fmt: skip


# --- composite, special ------------------------------------------------------------------


def pairs(parameter: SearchParameter, resource: Json) -> Values:
    """Of each element, the values of its components, if it has all of them."""
    expression = parameter.expression or ""
    found = []
    for place, _ in enumerate(compile(expression).evaluate(resource, CONTEXT)):
        parts = []
        for component in parameter.components:
            inner = component.expression.replace("as(DateTime)", "as(dateTime)")
            # A choice of expressions is of the element, each by itself.
            whole = " | ".join(f"({expression})[{place}].{one.strip()}" for one in inner.split("|"))
            parts.append(list(compile(whole).evaluate(resource, CONTEXT)))
        if all(parts):
            found.append(tuple(parts))
    return found


PARTS = {"token", "string", "quantity", "date", "reference"}


def ask_composites(rows: list[Row], parameter: SearchParameter) -> Iterator[Asked]:
    if any("%resource" in c.expression for c in parameter.components):
        return
    kinds = [load().search_parameter(c.definition) for c in parameter.components]
    if any(kind.type not in PARTS for kind in kinds) or not any(values for _, values in rows):
        return
    elements = [values[0] for _, values in rows if values]
    for element in (elements[0], elements[-1]):
        sample: list[list[Asked]] = []
        for part, kind in zip(element, kinds, strict=True):
            asked = [a for a in ASK[kind.type]([("", part)], kind) if not a.modifier]
            sample.append([a for a in asked if a.holds(part)][:1])
        if all(sample):
            chosen = [one[0] for one in sample]
            yield Asked("", "$".join(one.value for one in chosen), some(
                lambda v, chosen=chosen: all(
                    one.holds(part) for one, part in zip(chosen, v, strict=True))))  # fmt: skip


def ask_special(rows: list[Row], parameter: SearchParameter) -> Iterator[Asked]:
    """near, by the spherical law of cosines."""
    if parameter.code != "near":
        return
    for latitude, longitude in picked(
        rows, lambda p: [(p["latitude"], p["longitude"])] if "latitude" in p else []
    ):
        for reach in (1, 50, 400):
            yield Asked("", f"{latitude}|{longitude}|{reach}|km", some(
                lambda p, a=latitude, o=longitude, r=reach: kilometres(p, a, o) <= r))  # fmt: skip


def kilometres(position: Json, latitude: Any, longitude: Any) -> float:
    here, there = radians(float(position["latitude"])), radians(float(latitude))
    turn = radians(float(longitude) - float(position["longitude"]))
    return 6371.0088 * acos(min(1.0, sin(here) * sin(there) + cos(here) * cos(there) * cos(turn)))


Ask = Callable[[list[Row], SearchParameter], Iterator[Asked]]


ASK: dict[str, Ask] = {
    "token": ask_tokens,
    "string": ask_strings,
    "reference": ask_references,
    "date": ask_dates,
    "number": ask_numbers,
    "quantity": ask_quantities,
    "uri": ask_uris,
    "composite": ask_composites,
    "special": ask_special,
}
