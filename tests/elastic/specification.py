"""Requests judged by the official specification of the API, as its own client carries it.

The client and the classes of its query language are generated from elastic/elasticsearch-
specification (Apache-2.0): the parameters of an endpoint are those of its method, the fields of
a query those of its class.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from elasticsearch import AsyncElasticsearch
from elasticsearch._sync.client import IndicesClient
from elasticsearch.dsl import field as fields
from elasticsearch.dsl import query as queries
from elasticsearch.dsl import types

Json = dict[str, Any]
COMMON = {"error_trace", "filter_path", "human", "pretty"}
ENDPOINTS: dict[tuple[str, str], tuple[Any, set[str]]] = {
    ("GET", "/"): (AsyncElasticsearch.info, set()),
    ("PUT", "/{index}"): (IndicesClient.create, {"aliases", "mappings", "settings"}),
    ("DELETE", "/{index}"): (IndicesClient.delete, set()),
    ("PUT", "/{index}/_bulk"): (AsyncElasticsearch.bulk, set()),
    ("POST", "/{index}/_refresh"): (IndicesClient.refresh, set()),
    ("POST", "/{index}/_forcemerge"): (IndicesClient.forcemerge, set()),
    ("POST", "/{index}/_search"): (
        AsyncElasticsearch.search,
        {"query", "knn", "sort", "size", "search_after", "version", "_source", "track_total_hits"},
    ),
}
"""(method, path) -> the method of the client, and which of its parameters lie in the body."""
ACTIONS = {
    "index": {"_id", "version", "version_type"},
    "delete": {"_id", "version", "version_type"},
}
"""https://www.elastic.co/docs/api/doc/elasticsearch/v8/operation/operation-bulk"""


class NotSpecified(AssertionError):
    """Something that the specification does not know."""


def endpoint(method: str, path: str) -> tuple[str, str]:
    """(method, pattern). Raises NotSpecified."""
    pattern = re.sub(r"^/[a-z][a-z0-9-]*", "/{index}", path)
    if (method, pattern) not in ENDPOINTS:
        raise NotSpecified(f"{method} {path}")
    return method, pattern


def judge(method: str, path: str, query: Json, body: Any) -> tuple[str, str]:
    """The endpoint of a request that the specification knows. Raises NotSpecified."""
    found = endpoint(method, path)
    function, in_body = ENDPOINTS[found]
    known = set(inspect.signature(function).parameters) - {"self", "index", "body"} - in_body
    if query.keys() - known - COMMON:
        raise NotSpecified(f"{method} {path}: {query.keys() - known}")
    if isinstance(body, dict):
        if body.keys() - in_body:
            raise NotSpecified(f"{method} {path}: {body.keys() - in_body} in the body")
        for name, check in (("query", query_), ("knn", knn), ("mappings", mappings)):
            if name in body:
                check(body[name])
        for sort in body.get("sort", ()):
            ((_, how),) = sort.items()
            _members(types.FieldSort, how)
    return found


def query_(query: Json) -> None:
    """A query and those in it."""
    ((name, body),) = query.items()
    made = next((c for c in _classes(queries.Query) if c.name == name), None)
    if made is None:
        raise NotSpecified(f"query {name}")
    known = _parameters(made.__init__)
    if name == "range":
        ((_, ends),) = body.items()
        assert ends and not ends.keys() - {"gt", "gte", "lt", "lte"}
    elif name in ("term", "prefix", "match_phrase"):
        ((_, inner),) = body.items()
        _members(_of_field(made), inner)
    elif name == "terms":
        assert all(isinstance(values, list) for values in body.values())
    elif body.keys() - known:
        raise NotSpecified(f"query {name}: {body.keys() - known}")
    if name == "bool":
        for clause in ("filter", "should", "must", "must_not"):
            for part in body.get(clause, ()):
                query_(part)


def knn(body: Json) -> None:
    _members(queries.Knn, body)
    query_(body["filter"])


def mappings(body: Json) -> None:
    if body.keys() - {"dynamic", "_source", "properties"}:
        raise NotSpecified(f"mappings: {body.keys()}")
    for name, made in body["properties"].items():
        kind = next((c for c in _classes(fields.Field) if c.name == made["type"]), None)
        if kind is None:
            raise NotSpecified(f"type {made['type']} of {name}")
        unknown = made.keys() - _parameters(kind.__init__) - {"type"}
        if unknown:
            raise NotSpecified(f"{name}: {unknown}")


def _of_field(made: Any) -> Any:
    """The class of what a query says of one field."""
    hint = str(inspect.signature(made.__init__).parameters["_value"].annotation)
    (name,) = re.findall(r"types\.(\w+Query)\b", hint)
    return getattr(types, name)


def _members(kind: Any, body: Json) -> None:
    if body.keys() - _parameters(kind.__init__):
        raise NotSpecified(f"{kind.__name__}: {body.keys() - _parameters(kind.__init__)}")


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "args", "kwargs"}


def _classes(base: Any) -> list[Any]:
    return [c for one in base.__subclasses__() for c in (one, *_classes(one))]
