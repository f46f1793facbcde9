"""reference: https://hl7.org/fhir/R4/search.html#reference"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any as Value
from typing import Final, NamedTuple

from fhir_server.search.lineage import lineages
from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.parameters.token import code_is
from fhir_server.search.plan import FALSE, All, Any, Predicate, ReferenceIs
from fhir_server.search.values import IndexValues, ReferenceValue, tokens_of

_LOCAL = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?"
)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


class Target(NamedTuple):
    """Where a reference leads: ``type``/``id`` on this server, else ``url``."""

    type: str
    id: str
    url: str
    version: str


@lru_cache(maxsize=16384)
def target(reference: str, base: str) -> Target:
    """Read a literal reference; an absolute one below the own base URL is local."""
    text = reference
    if base and text.startswith(base) and text[len(base) : len(base) + 1] == "/":
        text = text[len(base) + 1 :]
    match = _LOCAL.fullmatch(text)
    if match is not None:
        return Target(match["type"], match["id"], "", match["version"] or "")
    return Target("", "", reference, "")


def type_of(reference: Value, base: str = "") -> str:
    """The resource type that a Reference element says it leads to, "" if it does not say."""
    literal = reference.get("reference", "")
    found = target(literal, base)
    if found.type:
        return found.type
    if (stated := reference.get("type")) is not None:
        return str(stated).rpartition("/")[2]
    match = _LOCAL.search(literal)
    return match["type"] if match is not None and _SCHEME.match(literal) else ""


def _reference(index: str, site: Site) -> Emit:
    base, named = site.base, f"{index}:identifier"

    def emit(value: Value, out: IndexValues) -> None:
        literal = value.get("reference")
        # A logical reference (identifier only) leads nowhere, but the element is present.
        out.references.append(ReferenceValue(index, *target(literal or "", base)))
        known = value.get("identifier")
        if known is not None and ("system" in known or "value" in known):
            out.tokens += tokens_of(named, known.get("system", ""), known.get("value", ""))

    return emit


def _canonical(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        url, _, version = value.partition("|")
        out.references.append(ReferenceValue(index, "", "", url, version))
        # Behind a # is what the resource contains; the reference is to the resource as well.
        plain, mark, _ = value.partition("#")
        if mark and plain:
            url, _, version = plain.partition("|")
            out.references.append(ReferenceValue(index, "", "", url, version))

    return emit


def compile_reference(criterion: Criterion) -> Predicate:
    """``id``, ``Type/id``, an absolute url or, for canonicals, ``url|version``."""
    parts = tuple(_sought(criterion, value) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


def _identified(criterion: Criterion, value: str) -> Predicate:
    """By the identifier that the reference itself bears, as a token."""
    parts = [unescape(part) for part in split(value, "|")]
    if len(parts) > 2 or not any(parts):
        raise criterion.bad(value, "is not value, system|value, |value or system|")
    system, wanted = parts if len(parts) == 2 else (None, parts[0])
    return code_is(criterion, system, wanted, f"{criterion.index}:identifier")


def _sought(criterion: Criterion, value: str) -> Predicate:
    parameter = criterion.parameter
    if criterion.modifier == "identifier":
        return _identified(criterion, value)
    if parameter.canonical:
        if criterion.modifier not in ("", "below"):
            # What is above a version is no set of versions that a server could know.
            raise criterion.bad(f":{criterion.modifier}", "is no modifier of a canonical")
        url, *version = [unescape(part) for part in split(value, "|")]
        leaf = ReferenceIs(criterion.index, None, None, url, below=criterion.modifier == "below")
        return _versioned(leaf, "".join(version[:1]))
    text = unescape(value)
    if criterion.modifier in ("below", "above"):
        return _related(criterion, value, target(text, criterion.context.base))
    if criterion.modifier and criterion.modifier not in parameter.targets:
        raise criterion.bad(criterion.modifier, "is not a type that it refers to")
    types = (criterion.modifier,) if criterion.modifier else parameter.targets
    if _ID.fullmatch(text):
        return _by_id(criterion.index, types, text)
    found = target(text, criterion.context.base)
    if found.type:
        if found.type not in types:
            return FALSE
        return _versioned(ReferenceIs(criterion.index, found.type, found.id), found.version)
    if _SCHEME.match(text) is None:
        raise criterion.bad(value, "is not an id, Type/id or an absolute url")
    if (criterion.modifier or parameter.narrowed) and type_of({"reference": text}) not in types:
        return FALSE
    return ReferenceIs(criterion.index, None, None, text)


def _related(criterion: Criterion, value: str, found: Target) -> Predicate:
    """The resource, or one that is part of it (``:below``) or that it is part of (``:above``)."""
    types = [type_ for type_ in criterion.parameter.targets if type_ in lineages()]
    if not types:
        names = ", ".join(sorted(lineages()))
        raise criterion.bad(f":{criterion.modifier}", f"needs a reference to one of {names}")
    type_, id_ = found.type, found.id
    if not type_ and len(types) == 1 and _ID.fullmatch(found.url):
        type_, id_ = types[0], found.url
    if type_ not in types or found.version:
        raise criterion.bad(value, f"is not a reference to one of {', '.join(types)}")
    context = criterion.context.terminology
    find = context.under if criterion.modifier == "below" else context.over
    parts = tuple(ReferenceIs(criterion.index, type_, code) for _, code in find(type_, id_))
    return parts[0] if len(parts) == 1 else Any(parts)


def _versioned(leaf: ReferenceIs, version: str) -> Predicate:
    """That version only; what the plain reference finds is what is looked through.

    https://hl7.org/fhir/R4/search.html#versions: ``:below`` of a canonical means the versions that
    begin so, of a canonical without a version all of them.
    """
    plain = replace(leaf, below=False)
    return All((plain, replace(leaf, version=version))) if version else plain


def _by_id(index: str, types: tuple[str, ...], id: str) -> Predicate:
    """The types are spelt out, so that a policy can ask whether each target is visible."""
    parts = tuple(ReferenceIs(index, type, id) for type in types)
    return parts[0] if len(parts) == 1 else Any(parts)


REFERENCE = Kind(
    name="reference",
    description="A reference: id, Type/id, an absolute url; :Type names the type of a bare id",
    example="Observation?subject=Patient/1",
    modifiers=("[type]", "identifier", "below", "above"),
    modifier_types={
        "identifier": frozenset({"Reference"}),
        "below": frozenset({"Reference", "canonical", "uri", "url"}),
        "above": frozenset({"Reference"}),
    },
    compile=compile_reference,
    sortable=False,
    readers={
        "Reference": _reference,
        "canonical": _canonical,
        "uri": _canonical,
        "url": _canonical,
    },
)
