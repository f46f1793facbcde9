"""Whether a SearchParameter can be put in force here; if not, why.

https://hl7.org/fhir/R4/searchparameter.html. Only those of status active are in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

from msgspec.structs import replace

from fhir_server.definitions.elements import SearchParameter
from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import Definitions
from fhir_server.fhirpath import Context, FhirPathError, compile
from fhir_server.fhirpath.syntax import Call
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Unprocessable
from fhir_server.search.custom import BUDGET, Custom, definition_of, in_force, same_meaning
from fhir_server.search.extended import custom_index, types_of
from fhir_server.search.parameters import KINDS

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""What a URL can say without being taken for a chain, a modifier or a common parameter."""

ELSEWHERE: Final = frozenset(
    {"resolve", "memberOf", "subsumes", "subsumedBy", "conformsTo", "htmlChecks", "trace"}
)
"""Functions whose result depends on more than the resource."""
MOMENTS: Final = frozenset({"now", "today", "timeOfDay"})
MOST_EXPRESSION: Final = 4_000


def is_published(definitions: Definitions, definition: SearchParameter) -> bool:
    """Whether it is a copy of one of FHIR's own: that one is in force anyway."""
    try:
        own = definitions.search_parameter(definition.url)
    except KeyError:
        return False
    return same_meaning(own, definition)


def check(
    definitions: Definitions, resource: Json, id_: str, others: Iterable[Custom] = ()
) -> None:
    """Raises Unprocessable with every reason why this SearchParameter cannot be in force.

    ``others``: those in force, among them perhaps an earlier version of this one (``id_``).
    """
    if not in_force(resource):
        return
    definition = definition_of(resource)
    if is_published(definitions, definition):
        return
    issues = list(_faults(definitions, definition, id_, others))
    if not issues:
        issues = list(_expression(definitions, definition))
    if issues:
        raise Unprocessable(issues)


def _fault(element: str, text: str, code: str = "not-supported") -> Issue:
    return Issue(code, text, f"SearchParameter.{element}")


def _faults(
    definitions: Definitions, definition: SearchParameter, id_: str, others: Iterable[Custom]
) -> Iterator[Issue]:
    code = definition.code
    if definition.type not in KINDS or definition.type in ("composite", "special"):
        yield _fault("type", f"parameters of type {definition.type!r} cannot be added")
    if definition.usage != "normal":
        yield _fault("xpathUsage", f"the usage {definition.usage!r} is not supported")
    if _CODE.fullmatch(code) is None:
        text = f"{code[:64]!r} is not letters, digits, - and _ with a letter first"
        yield _fault("code", text, "value")
    for base in definition.bases:
        if base not in ("Resource", "DomainResource") and base not in definitions.resource_types:
            yield _fault("base", f"{base[:64]!r} is not a resource type", "code-invalid")
    for target in definition.targets:
        if target not in definitions.resource_types and target != "Resource":
            yield _fault("target", f"{target[:64]!r} is not a resource type", "code-invalid")
    try:
        definitions.search_parameter(definition.url)
        yield _fault("url", "this url is that of a parameter of FHIR itself", "duplicate")
    except KeyError:
        pass
    yield from _taken(definitions, definition, id_, others)


def _taken(
    definitions: Definitions, definition: SearchParameter, id_: str, others: Iterable[Custom]
) -> Iterator[Issue]:
    types, code = types_of(definitions, definition.bases), definition.code
    taken = {type_ for type_ in types if code in definitions.search_parameters(type_)}
    for other in others:
        if other.definition.code == code and other.identity.rpartition(".")[0] != id_:
            taken |= types & other.types
    if taken:
        named = min(taken)
        yield _fault("code", f"{named} has a search parameter {code!r} already", "duplicate")


def _expression(definitions: Definitions, definition: SearchParameter) -> Iterator[Issue]:
    text = definition.expression
    if not text or len(text) > MOST_EXPRESSION:
        yield _fault("expression", "an expression of at most 4000 characters is needed", "required")
        return
    try:
        tree = compile(text).tree
    except FhirPathError as error:
        yield _fault("expression", f"not a FHIRPath expression: {str(error)[:200]}", "invalid")
        return
    for name in sorted(set(_called(tree))):
        if name in MOMENTS:
            yield _fault("expression", f"{name}() has another value when it is searched", "invalid")
        elif name in ELSEWHERE and not _reads(definitions, definition):
            yield _fault("expression", f"{name}() cannot be used here: it looks elsewhere")
    for part in _idle(definitions, definition):
        yield _fault("expression", f"{part[:100]!r} finds nothing on any base", "invalid")
        return
    for type_ in sorted(types_of(definitions, definition.bases)):
        try:
            reason = _found_nothing(definitions, type_, definition)
        except FhirPathError as error:
            reason = str(error)[:200]
        if reason:
            yield _fault("expression", f"on {type_}: {reason}", "invalid")
            return


def _reads(definitions: Definitions, definition: SearchParameter) -> bool:
    """Whether it is within the subset, where ``where(resolve() is T)`` looks at the reference."""
    types = types_of(definitions, definition.bases)
    return all(custom_index(definitions, t, definition, "").paths for t in types)


def _idle(definitions: Definitions, definition: SearchParameter) -> Iterator[str]:
    """The alternatives of a compiled expression that find nothing."""
    if not _reads(definitions, definition):
        return
    types = types_of(definitions, definition.bases)
    for part in (definition.expression or "").split("|"):
        alone = replace(definition, expression=part.strip())
        if not any(custom_index(definitions, type_, alone, "").paths for type_ in types):
            yield part.strip()


def _found_nothing(definitions: Definitions, type_: str, definition: SearchParameter) -> str:
    """Why it can find nothing on a type; "" if it can. Raises FhirPathError."""
    index = custom_index(definitions, type_, definition, "")
    if index.paths:
        return ""
    if not index.expression:
        return f"no element of a type that {definition.type!r} parameters read"
    context = Context(model=r4_model(), budget=BUDGET, strict=True)
    compile(index.expression).items({"resourceType": type_}, context)
    return ""


def _called(tree: Any) -> Iterator[str]:
    """The names of all functions in a syntax tree."""
    if isinstance(tree, Call):
        yield tree.name
    if is_dataclass(tree):
        for one in fields(tree):
            yield from _called(getattr(tree, one.name))
    elif isinstance(tree, tuple):
        for part in tree:
            yield from _called(part)
