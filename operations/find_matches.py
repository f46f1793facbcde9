"""CodeSystem/$find-matches: https://hl7.org/fhir/R4/codesystem-operation-find-matches.html"""

from __future__ import annotations

from collections import Counter
from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable
from terminology.concepts import Concepts, folded, written
from terminology.local import Local

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import SourceOf, answering, parameters, said, the_system

MOST: Final = 100
"""Matches in one answer."""
TEXT: Final = frozenset({"display", "definition", "designation"})
"""Properties whose value is words: each begins one of the concept's."""
_PROPERTY: Final = (
    Parameter("code", "code", "Which property, or display for words", min=1),
    Parameter("value", "value", "Its value; none: it has one"),
    Parameter("subproperty", "value", "Not supported", max=None),
)
_UNMATCHED: Final = (
    Parameter("code", "code", "The property", min=1),
    Parameter("value", "value", "The value that was asked for"),
)


def find_matches(source_of: SourceOf) -> Operation:
    """The row."""
    return Operation(
        code="find-matches",
        id="CodeSystem-find-matches",
        levels=frozenset(("type", "instance")),
        types=("CodeSystem",),
        affects_state=False,
        inputs=(
            Parameter("system", "uri", "The code system; not needed on an instance"),
            Parameter("version", "string", "The version of the code system"),
            Parameter("property", "", "What is known", min=1, max=None, parts=_PROPERTY),
            Parameter("exact", "boolean", "Everything must match", min=1),
            Parameter("compositional", "boolean", "Not supported but for false"),
        ),
        outputs=(
            Parameter(
                "match",
                "",
                f"A concept, the best first, at most {MOST}",
                max=None,
                parts=(
                    Parameter("code", "Coding", "The concept", min=1),
                    Parameter("unmatched", "", "Not of it", max=None, parts=_UNMATCHED),
                    Parameter("comment", "string", "What is to be known"),
                ),
            ),
        ),
        scope="user/CodeSystem.rs",
        description="The concepts that have these properties, or the most of them.",
        example="POST /CodeSystem/$find-matches",
        handler=answering(source_of, _answer),
    )


async def _answer(arguments: Arguments, service: Local, session: Session, call: Invocation) -> Json:
    if arguments.one("compositional", False):
        raise Unprocessable("compositional: only existing codes are found", code="not-supported")
    system, version = arguments.one("system", ""), arguments.one("version", "")
    if call.level == "instance":
        if system:
            raise BadRequest("system: the URL names the code system already")
        concepts = await the_system(arguments, service, session, call)
    elif system:
        concepts = await service.code_system(system, version)
    else:
        raise BadRequest("The code system is required", code="required")
    asked = [_asked(one) for one in arguments.all("property")]
    found = [_having(concepts, name, value) for name, value, _ in asked]
    hits = Counter(code for codes in found for code in codes)
    least = len(asked) if arguments.one("exact") else 1
    best = [code for code in concepts.ordered(hits.keys()) if hits[code] >= least]
    best.sort(key=lambda code: -hits[code])
    rows = []
    for code in best[:MOST]:
        missed = [one for one, codes in zip(asked, found, strict=True) if code not in codes]
        rows.append(_match(concepts, code, [part for _, _, part in missed]))
    return parameters(*rows)


def _asked(property_: Arguments) -> tuple[str, str | None, Json]:
    """Name, value as a filter writes it, and how the client said it."""
    if property_.all("subproperty"):
        raise Unprocessable("subproperty is not supported", code="not-supported")
    name, value = property_.one("code"), property_.one("value")
    part: Json = {"name": "unmatched", "part": [{"name": "code", "valueCode": name}]}
    if value is None:
        return name, None, part
    part["part"].append({"name": "value", value.member: value.json})
    return name, written(value.json), part


def _having(concepts: Concepts, name: str, value: str | None) -> set[str]:
    if name in TEXT and value is not None:
        return set(concepts.sought(folded(value).split()))
    if not concepts.defines(name):
        text = f"the code system does not define the property {name[:40]!r}"
        raise Unprocessable(text, code="invalid")
    return concepts.bearing(name, value)


def _match(concepts: Concepts, code: str, missed: list[Json]) -> Json:
    coding = {"system": concepts.url, "code": code}
    if concepts.version:
        coding["version"] = concepts.version
    display = concepts.display(code)
    if display:
        coding["display"] = display
    comment = said("comment", "valueString", "not active" if concepts.inactive(code) else "")
    parts = [{"name": "code", "valueCoding": coding}, *missed, *([comment] if comment else [])]
    return {"name": "match", "part": parts}
