"""JSON Patch, RFC 6902, over the JSON form of a resource."""

from __future__ import annotations

import copy
from typing import Any, Final

import jsonpatch
import jsonpointer

from fhir_server.definitions.registry import Definitions
from fhir_server.formats.json import loads
from fhir_server.interactions.patches.nesting import refuse_depth
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable

MEDIA: Final = "application/json-patch+json"
OPERATIONS: Final = 1000
"""At most this many operations in one patch."""
COPIED: Final = 100_000
"""At most so many values, or hundreds of characters, are copied by one patch: each copy may
double what the next one copies."""


def apply(resource: Json, document: bytes, definitions: Definitions) -> Json:
    """BadRequest for what is no patch, Unprocessable for one that does not fit or whose test
    fails."""
    patched: Json = _without_empty(apply_operations(resource, _operations(document)))
    return patched


def tests(document: bytes) -> bool:
    """Is one of its operations a test? BadRequest for what is no patch."""
    return any(operation.get("op") == "test" for operation in _operations(document))


def apply_operations(resource: Json, operations: list[Any]) -> Json:
    """The parsed form of the same."""
    if len(operations) > OPERATIONS:
        raise BadRequest(f"more than {OPERATIONS} patch operations", code="too-costly")
    try:
        patched = _applied(jsonpatch.JsonPatch(operations), copy.deepcopy(resource))
    except jsonpatch.JsonPatchTestFailed:
        raise Unprocessable("a test of the JSON Patch failed", code="processing") from None
    except jsonpatch.InvalidJsonPatch:
        raise BadRequest("not a JSON Patch (RFC 6902)", code="structure") from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
        raise Unprocessable("the JSON Patch does not fit the resource") from None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        # The library leaves some malformed operations to the containers they address.
        raise Unprocessable("the JSON Patch does not fit the resource") from None
    except RecursionError:
        raise Unprocessable("the patched resource nests too deeply") from None
    if not isinstance(patched, dict):
        raise Unprocessable("the JSON Patch leaves no resource")
    refuse_depth(patched)
    return patched


def _applied(patch: jsonpatch.JsonPatch, value: Any) -> Any:
    left = COPIED
    for operation in patch.patch:
        if operation["op"] == "copy":
            left = _counted(jsonpointer.resolve_pointer(value, operation["from"]), left)
        value = jsonpatch.JsonPatch([operation]).apply(value, in_place=True)
    return value


def _counted(value: Any, left: int) -> int:
    """What is left when this has been copied. Raises BadRequest below 0."""
    left -= 1 + len(value) // 100 if isinstance(value, str) else 1
    if left < 0:
        raise BadRequest("the JSON Patch copies too much", code="too-costly")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            left = _counted(inner, left)
    return left


def _without_empty(value: Any) -> Any:
    """Removals leave empty arrays and objects behind, which FHIR JSON does not have."""
    if isinstance(value, dict):
        return {
            k: v
            for k, v in ((k, _without_empty(v)) for k, v in value.items())
            if v != {} and v != []
        }
    if isinstance(value, list):
        return [v for v in map(_without_empty, value) if v != {} and v != []]
    return value


def _operations(document: bytes) -> list[Any]:
    # The strict reader takes objects; a patch document is an array of them.
    wrapped = loads(b'{"patch":' + document + b"}")
    operations: list[Any] | None = wrapped.get("patch")
    shaped = isinstance(operations, list) and all(isinstance(o, dict) for o in operations)
    if len(wrapped) != 1 or not shaped or operations is None:
        raise BadRequest("a JSON Patch is an array of operations", code="structure")
    return operations
