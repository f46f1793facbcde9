"""The OpenAPI 3.1 document, computed from the route table and the definitions.

https://spec.openapis.org/oas/v3.1.0. By default one path serves all types; for one type its
paths, search parameters and the schemas of what it holds are written out. The schemas say
less than the validator: no invariants, no bindings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from fhir_server.access.roles import UNCHANGED
from fhir_server.definitions.registry import Definitions
from fhir_server.http.negotiate import FORM
from fhir_server.http.routes import ANY_TYPE, Route
from fhir_server.model.exchange import Json

FHIR_JSON: Final = "application/fhir+json"
CONDITIONS: Final = {
    "create": ("If-None-Exist",),
    "read": ("If-None-Match", "If-Modified-Since"),
    "update": ("If-Match",),
    "patch": ("If-Match",),
    "delete": ("If-Match",),
}
"""Interaction -> request headers that it looks at, beside Prefer."""

_ID: Final = {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"}
_NUMBERS: Final[dict[str, Json]] = {
    "boolean": {"type": "boolean"},
    "decimal": {"type": "number"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "positiveInt": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "unsignedInt": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
}
_PATTERNED: Final = frozenset({"date", "dateTime", "instant", "time", "id", "code", "oid", "uuid"})
_INLINE: Final = frozenset({"BackboneElement", "Element"})


class OpenApi:
    """Makes documents. ``served``: interactions that have a handler; ``url``: of the server.
    ``further``: paths beside the FHIR base, and their security schemes.
    """

    def __init__(
        self,
        definitions: Definitions,
        routes: Iterable[Route],
        served: Collection[str],
        url: str,
        version: str,
        further: tuple[dict[str, Json], dict[str, Json]] = ({}, {}),
    ) -> None:
        self._paths, self._schemes = further
        self._definitions = definitions
        self._routes = [route for route in routes if route.interaction in served]
        self._url = url
        self._version = version

    def document(self, type_: str | None = None) -> Json:
        """Of all types, or of one; KeyError for a type that is none."""
        if type_ is not None and type_ not in self._definitions.resource_types:
            raise KeyError(type_)
        paths: dict[str, Json] = {} if type_ else dict(self._paths)
        for route in self._routes:
            pattern = route.pattern
            if type_ is not None:
                if not pattern.startswith(ANY_TYPE) and not pattern.startswith(f"{type_}"):
                    continue
                if self._schemes and route.verb in UNCHANGED.get(type_, ()):
                    continue
                pattern = pattern.replace(ANY_TYPE, type_)
            paths.setdefault(f"/fhir/{pattern}", {})[route.method.lower()] = self._operation(
                route, pattern, type_
            )
        return {
            "openapi": "3.1.0",
            "info": {"title": "vEHR: FHIR R4", "version": self._version},
            "servers": [{"url": self._url}],
            "security": [{"bearer": []}],
            "paths": dict(sorted(paths.items())),
            "components": {
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}} | self._schemes,
                "schemas": Schemas(self._definitions).of(type_),
            },
        }

    def _operation(self, route: Route, pattern: str, type_: str | None) -> Json:
        made: Json = {
            "operationId": f"{route.method.lower()} /{pattern}",
            "summary": route.description,
            "tags": [route.interaction],
            "parameters": [*self._path(pattern), *self._further(route, type_)],
            "responses": {
                "2XX": {"description": "done", **({} if route.raw else _json(_resource(None)))},
                "304": {"description": "the client has this version"},
                "default": {"description": "refused", **_json(_reference("OperationOutcome"))},
            },
        }
        body = _body(route, type_)
        if body is not None:
            made["requestBody"] = body
        if route.public:
            made["security"] = []
        return made

    def _path(self, pattern: str) -> Iterator[Json]:
        for part in pattern.split("/"):
            if part[:1] != "{":
                continue
            name = part[1:-1]
            schema: Json = dict(_ID)
            if name in ("type", "compartment"):
                schema = {"enum": sorted(self._definitions.resource_types)}
            elif name == "operation":
                schema = {"type": "string", "pattern": r"^\$[a-z\-]+$"}
            elif name == "search":
                schema = {"const": "_search"}
            yield {"name": name, "in": "path", "required": True, "schema": schema}

    def _further(self, route: Route, type_: str | None) -> Iterator[Json]:
        yield _parameter("_format", {"enum": ["json", "xml"]})
        yield _parameter("_pretty", {"enum": ["true", "false"]})
        if route.interaction == "search-type" and route.method == "GET" and type_ is not None:
            for code in self._definitions.search_parameters(type_):
                yield _parameter(code, {"type": "string", "minLength": 1})
        if "search" in route.interaction or route.interaction.startswith("history"):
            yield _parameter("_count", {"type": "integer", "minimum": 1, "maximum": 1000})
        for header in CONDITIONS.get(route.interaction.removesuffix("-binary"), ()):
            yield _parameter(header, {"type": "string"}, "header")


class Schemas:
    """JSON Schemas (2020-12) of types and of their inner elements, by path."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._made: dict[str, Json] = {}
        self._waiting: list[str] = []

    def of(self, type_: str | None) -> dict[str, Json]:
        """Of one resource type, or of all, with everything that they refer to."""
        every = sorted(self._definitions.resource_types)
        self._waiting = ["OperationOutcome", *([type_] if type_ else every)]
        while self._waiting:
            path = self._waiting.pop()
            if path not in self._made:
                self._made[path] = {}
                self._made[path] = self._schema(path)
        anything: Json = {"type": "object", "required": ["resourceType"]}
        anything["properties"] = {"resourceType": {"enum": every}}
        return {"Resource": anything, **dict(sorted(self._made.items()))}

    def _schema(self, path: str) -> Json:
        if self._is_primitive(path):
            return self._primitive(path)
        properties: Json = {}
        required: list[str] = []
        if path in self._definitions.resource_types:
            properties["resourceType"] = {"const": path}
            required.append("resourceType")
        for name, (element, type_) in self._definitions.members(path).items():
            inner = type_.code
            if inner in _INLINE and element.path:
                inner = element.content_reference or element.path
            repeats = element.max != 1
            properties[name] = _many(self._refer(inner), repeats)
            if self._is_primitive(type_.code):
                properties[f"_{name}"] = _many(self._refer("Element"), repeats)
            elif element.min and not element.choice:
                required.append(name)
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        return schema | ({"required": required} if required else {"minProperties": 1})

    def _is_primitive(self, code: str) -> bool:
        known = self._definitions.types
        return code in known and self._definitions.type(code).kind == "primitive-type"

    def _refer(self, path: str) -> Json:
        if path in ("Resource", "DomainResource"):
            return _reference("Resource")
        self._waiting.append(path)
        return _reference(path)

    def _primitive(self, name: str) -> Json:
        if name in _NUMBERS:
            return _NUMBERS[name]
        schema: Json = {"type": "string", "minLength": 1}
        pattern = self._definitions.primitive_pattern(name)
        if name in _PATTERNED and pattern is not None:
            schema["pattern"] = f"^(?:{pattern})$"
        return schema


def _parameter(name: str, schema: Json, place: str = "query") -> Json:
    return {"name": name, "in": place, "schema": schema}


def _reference(path: str) -> Json:
    return {"$ref": f"#/components/schemas/{path}"}


def _resource(type_: str | None) -> Json:
    return _reference(type_ or "Resource")


def _json(schema: Json) -> Json:
    return {"content": {FHIR_JSON: {"schema": schema}}}


def _many(schema: Json, repeats: bool) -> Json:
    return {"type": "array", "items": schema, "minItems": 1} if repeats else schema


def _body(route: Route, type_: str | None) -> Json | None:
    """What a route takes as its body."""
    match route.body:
        case "none":
            return None
        case "form":
            return {"content": {FORM: {"schema": {"type": "object"}}}}
        case "patch":
            patch = {"type": "array", "items": {"type": "object"}}
            return {"required": True, "content": {"application/json-patch+json": {"schema": patch}}}
        case "content":
            raw: Json = {"*/*": {}}
            return {"required": True, "content": raw | {FHIR_JSON: {"schema": _resource("Binary")}}}
        case "optional":
            return _json(_resource(None))
        case "resource":
            return {"required": True, **_json(_resource(type_))}
