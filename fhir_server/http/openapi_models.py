"""The faces of the models in the OpenAPI document: computed from their rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from fhir_server.http import inference, models
from fhir_server.http.inference import InferenceUrl
from fhir_server.http.models import ARCHIVES, DOCUMENTS, SPECIFICATIONS, ModelUrl
from fhir_server.model.exchange import Json

FHIR_JSON: Final = "application/fhir+json"
JSON: Final = "application/json"
_PARAMETERS: Final[Json] = {"schema": {"$ref": "#/components/schemas/Parameters"}}
_OUTCOME: Final[Json] = {"schema": {"$ref": "#/components/schemas/OperationOutcome"}}
_TENSORS: Final[Json] = {
    "schema": {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
    }
}


def model_paths() -> dict[str, Json]:
    """Path -> method -> operation, of ``/models``, ``/deid`` and ``/v2``."""
    paths: dict[str, Json] = {}
    for root, path, url, kind in _rows():
        made = _operation(f"/{root}", path, url, kind)
        paths.setdefault(path, {})[url.method.lower()] = made
    return paths


def _rows() -> Iterator[tuple[str, str, ModelUrl | InferenceUrl, str]]:
    faces: tuple[tuple[str, Iterable[ModelUrl | InferenceUrl], str], ...] = (
        ("models", models.URLS, FHIR_JSON),
        ("deid", models.DEID, FHIR_JSON),
        ("v2", inference.URLS, JSON),
    )
    for root, urls, kind in faces:
        for url in urls:
            yield root, f"/{root}/{url.pattern}".rstrip("/"), url, kind


def _operation(root: str, path: str, url: ModelUrl | InferenceUrl, kind: str) -> Json:
    fhir = kind == FHIR_JSON
    answered = _PARAMETERS if fhir else {"schema": {"type": "object"}}
    refused = {FHIR_JSON: _OUTCOME} if fhir else {JSON: {"schema": {"type": "object"}}}
    made: Json = {
        "operationId": f"{url.method.lower()} {path}",
        "summary": url.description,
        "tags": [root.strip("/")],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", path)
        ],
        "responses": {
            "2XX": {"description": "done", "content": {kind: answered}},
            "default": {"description": "refused", "content": refused},
        },
    }
    if url.operation:
        made["description"] = (
            f"Stands for /fhir/${url.operation}; its OperationDefinition names the parameters, "
            "which may stand in the query."
        )
    else:
        made["security"] = []
    if url.method in ("POST", "PUT"):
        made["requestBody"] = _body(url)
    return made


def _body(url: ModelUrl | InferenceUrl) -> Json:
    if isinstance(url, InferenceUrl):
        return {"required": True, "content": {JSON: _TENSORS}}
    content: dict[str, Json] = {FHIR_JSON: _PARAMETERS}
    if url.operation == "model-push":
        content |= {kind: {} for kind in sorted(ARCHIVES)}
    if url.operation == "model-train":
        content |= {kind: {"schema": {"type": "string"}} for kind in sorted(SPECIFICATIONS)}
    if url in models.DEID:
        content |= {kind: {"schema": {"type": "object"}} for kind in sorted(DOCUMENTS)}
    return {"required": False, "content": content}
