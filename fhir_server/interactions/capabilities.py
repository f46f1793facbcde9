"""capabilities: https://hl7.org/fhir/R4/http.html#capabilities

The CapabilityStatement is computed from the registries and never written by hand: what has
a handler is in it, what has none is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Final, Protocol, TypeAlias

from fhir_server.access.roles import UNCHANGED
from fhir_server.access.session import Session
from fhir_server.formats.json import dumps, loads
from fhir_server.interactions.answer import refuse_parameters
from fhir_server.interactions.instantiates import fulfilled
from fhir_server.interactions.patches import FORMATS
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.subset import PARTS, Asked, Subsets, asked_for, part_of
from fhir_server.interactions.terminology_capabilities import terminology_statement
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest
from fhir_server.search.schema import SearchSchema
from fhir_server.search.words import CONTENT, TEXT
from operations.registry import Operations

TYPE: Final = "CapabilityStatement"
TERMINOLOGY: Final = "TerminologyCapabilities"
# https://hl7.org/fhir/R4/valueset-type-restful-interaction.html
ON_TYPE: Final = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
# https://hl7.org/fhir/R4/valueset-system-restful-interaction.html
ON_SYSTEM: Final = ("transaction", "batch", "search-system", "history-system")

ACROSS: Final = (
    ("_id", "token"),
    ("_lastUpdated", "date"),
    ("_tag", "token"),
    ("_profile", "uri"),
    ("_security", "token"),
    ("_source", "uri"),
    ("_list", "string"),
    ("_has", "string"),
    ("_filter", "special"),
    ("_text", "string"),
    ("_content", "string"),
    ("_type", "token"),
)
"""Search parameters of every type: https://hl7.org/fhir/R4/search.html#all"""
ENGINE: Final = (
    "{} names the candidates and the store judges them; so far this has been tested by the "
    "contract of its API, not against a real server."
)
TEXTS: Final = (TEXT, CONTENT)
"""Parameters that read the words of a resource: every store of this server can."""
CHANGING: Final = ("meta-add", "meta-delete", "expunge")
"""Operations that change what is stored of a type as an update or a deletion does."""
COMPARTMENT: Final = "http://hl7.org/fhir/CompartmentDefinition/"
PROFILE: Final = "http://hl7.org/fhir/StructureDefinition/"
SMART: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"
GUIDES: Final = {
    "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/": (
        "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
    )
}
"""Where the operations of a guide are defined -> the statement of that guide."""
OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"

Supported: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Type -> profiles of installed packages."""


class Guided(Protocol):
    """What installed packages add to the statement."""

    async def supported(self) -> Supported: ...

    async def required(self) -> tuple[bytes, ...]:
        """Statements of what servers SHALL do, as JSON."""


@dataclass(frozen=True, slots=True)
class OperationName:
    """An operation as the statement lists it; ``types`` empty: of the system."""

    code: str
    definition: str
    types: frozenset[str]
    system: bool
    documentation: str = ""
    """What it does here, where its definition is a guide's."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the statement is computed from. ``started``: instant of the start."""

    interactions: Collection[str]
    schema: SearchSchema
    operations: tuple[OperationName, ...]
    started: str
    version: str
    open: bool
    conditional_delete: str = "single"
    oauth: Mapping[str, str] = field(default_factory=dict)
    """Endpoint -> URL of the authorization server."""
    engine: str = ""
    """What finds the candidates of ``_text`` and ``_content`` beside the store, if anything."""
    profiles: Supported = ()
    required: tuple[bytes, ...] = ()
    """Statements of guides that may be fulfilled."""


def capabilities(abilities: Callable[[], Abilities], guided: Guided, subsets: Subsets) -> Handler:
    """The handler; the bytes are made once per base URL, set of parameters and of packages."""

    @cache
    def body(base: str, revision: int, profiles: Supported, required: tuple[bytes, ...]) -> bytes:
        found = replace(abilities(), profiles=profiles, required=required)
        return dumps(statement(found, base))

    @cache
    def terminology(base: str) -> bytes:
        found = abilities()
        codes = {operation.code for operation in found.operations}
        return dumps(terminology_statement(base, found.version, found.started, codes))

    @lru_cache(maxsize=16)
    def cut(whole: bytes, asked: Asked) -> bytes:
        return dumps(part_of(subsets, asked, loads(whole)))

    async def capabilities_(request: Request, session: Session) -> Response:
        refuse_parameters(request, "mode", *PARTS)
        modes = {mode for name, mode in request.query if name == "mode"}
        if modes == {"terminology"}:
            type_, made = TERMINOLOGY, await asyncio.to_thread(terminology, request.base)
        elif modes - {"full"}:
            text = f"mode: {min(modes)[:40]!r} is not supported, only one of full and terminology"
            raise BadRequest(text, code="not-supported")
        else:
            added = await guided.supported(), await guided.required()
            type_, made = TYPE, body(request.base, abilities().schema.revision, *added)
        if len(request.query) > len(modes):
            made = await asyncio.to_thread(cut, made, asked_for(subsets, (type_,), request.query))
        return Response(200, made)

    return capabilities_


def statement(abilities: Abilities, base: str) -> Json:
    """The CapabilityStatement of a base URL."""
    types = sorted(abilities.schema.types)
    including = _includes(abilities.schema, types)
    made: Json = {
        "resourceType": TYPE,
        "url": f"{base}/metadata",
        "version": abilities.version,
        "name": "vEHR",
        "status": "active",
        "date": abilities.started,
        "kind": "instance",
        "instantiates": [],
        "software": {"name": "vEHR", "version": abilities.version},
        "implementation": {"description": "FHIR R4 server of this domain", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json", "xml", "application/fhir+xml"],
        "patchFormat": sorted(FORMATS),
        "rest": [
            {
                "mode": "server",
                "security": _security(abilities),
                "resource": [_resource(abilities, type_, including) for type_ in types],
                "interaction": _codes(ON_SYSTEM, abilities.interactions),
                **_operations([o for o in abilities.operations if o.system]),
                **_across(abilities),
            }
        ],
    }
    own = _own_guides(abilities.operations)
    made["instantiates"] = sorted({*own, *fulfilled(abilities.required, made)})
    return {name: value for name, value in made.items() if value != []}


def _own_guides(operations: Iterable[OperationName]) -> list[str]:
    """The guides whose operations there are, installed or not."""
    return [
        statement_
        for place, statement_ in GUIDES.items()
        if any(operation.definition.startswith(place) for operation in operations)
    ]


def _across(abilities: Abilities) -> Json:
    """What a search over types takes, and the compartments."""
    found: Json = {}
    if "search-system" in abilities.interactions:
        found["searchParam"] = [
            {"name": name, "type": kind, **_engine(abilities, name)} for name, kind in ACROSS
        ]
    if "search-compartment" in abilities.interactions:
        codes = abilities.schema.definitions.compartments
        found["compartment"] = [COMPARTMENT + code.lower() for code in sorted(codes)]
    return found


def _security(abilities: Abilities) -> Json:
    if abilities.open:
        return {"cors": True, "description": "None: this server was started with --open"}
    coding = {"system": SMART, "code": "SMART-on-FHIR"}
    uris = [{"url": name, "valueUri": url} for name, url in abilities.oauth.items()]
    return {
        **({"extension": [{"url": OAUTH_URIS, "extension": uris}]} if uris else {}),
        "cors": True,
        "service": [{"coding": [coding], "text": "OAuth2 bearer tokens with SMART scopes"}],
    }


def _codes(known: tuple[str, ...], supported: Collection[str]) -> list[Json]:
    return [{"code": code} for code in known if code in supported]


def _resource(
    abilities: Abilities, type_: str, including: Mapping[str, tuple[list[str], list[str]]]
) -> Json:
    forward, backward = including[type_]
    refused = frozenset[str]() if abilities.open else UNCHANGED.get(type_, frozenset())
    updates = "update" not in refused
    hidden = () if updates else CHANGING
    operations = [o for o in abilities.operations if type_ in o.types and o.code not in hidden]
    resource: Json = {
        "type": type_,
        "profile": PROFILE + type_,
        "supportedProfile": next((list(urls) for t, urls in abilities.profiles if t == type_), []),
        "interaction": _codes(ON_TYPE, set(abilities.interactions) - refused),
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": updates,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": updates and "conditional-update" in abilities.interactions,
        "conditionalDelete": abilities.conditional_delete if updates else "not-supported",
        "referencePolicy": ["literal", "logical", "local"],
        "searchInclude": forward,
        "searchRevInclude": backward,
        "searchParam": _parameters(abilities, type_),
        **_operations(operations),
    }
    return {name: value for name, value in resource.items() if value not in ([], None)}


def _engine(abilities: Abilities, code: str) -> Json:
    """What is to be known of a parameter that a search engine answers."""
    asked = abilities.engine and code in TEXTS
    return {"documentation": ENGINE.format(abilities.engine)} if asked else {}


def _parameters(abilities: Abilities, type_: str) -> list[Json]:
    schema = abilities.schema
    found: list[tuple[str, str, str]] = [
        (parameter.code, parameter.kind, parameter.url)
        for parameter in schema.of(type_).parameters.values()
    ]
    defined = schema.definitions.search_parameters(type_)
    found += [(code, defined[code].type, defined[code].url) for code in TEXTS if code in defined]
    return [
        {
            "name": code,
            **({"definition": url} if url else {}),
            "type": kind,
            **_engine(abilities, code),
        }
        for code, kind, url in sorted(found)
    ]


def _includes(schema: SearchSchema, types: list[str]) -> dict[str, tuple[list[str], list[str]]]:
    """type -> what ``_include`` and ``_revinclude`` take on it."""
    found: dict[str, tuple[list[str], list[str]]] = {type_: ([], []) for type_ in types}
    for type_ in types:
        for code, parameter in sorted(schema.of(type_).parameters.items()):
            if parameter.leads:
                found[type_][0].append(f"{type_}:{code}")
                for target in parameter.targets:
                    found[target][1].append(f"{type_}:{code}")
    return found


def _operations(operations: list[OperationName]) -> Json:
    rows = [
        {
            "name": o.code,
            "definition": o.definition,
            **({"documentation": o.documentation} if o.documentation else {}),
        }
        for o in operations
    ]
    return {"operation": rows} if rows else {}


def named(operations: Operations, base: str) -> list[OperationName]:
    """The operations as a CapabilityStatement lists them."""
    return [
        OperationName(
            code=row.code,
            definition=row.canonical or f"{base}/OperationDefinition/{row.id or row.code}",
            types=frozenset(row.types if row.levels - {"system"} else ()),
            system="system" in row.levels,
            documentation=row.description if row.canonical else "",
        )
        for row in operations.rows
    ]
