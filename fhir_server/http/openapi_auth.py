"""The authorization server in the OpenAPI document: computed from its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fhir_server.auth.routes import Endpoint
from fhir_server.auth.server import AUTH
from fhir_server.http.negotiate import FORM
from fhir_server.model.exchange import Json

SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {
    "nothing": [],
    "session": [{"session": []}],
    "client": [{"client": []}, {}],
    "bearer": [{"bearer": []}],
}
"""Clients may also authenticate in the form, or be public."""
SCHEMES: Final[dict[str, Json]] = {
    "session": {"type": "apiKey", "in": "cookie", "name": "vehr-session"},
    "client": {"type": "http", "scheme": "basic"},
}


def auth_paths(rows: Iterable[Endpoint]) -> dict[str, Json]:
    """Path -> method -> operation."""
    paths: dict[str, Json] = {}
    for row in rows:
        path = f"{AUTH}/{row.path}".rstrip("/")
        paths.setdefault(path, {})[row.method.lower()] = _operation(row)
    return paths


def _operation(row: Endpoint) -> Json:
    kind = "text/html" if row.page else "application/json"
    described: Json = {"description": "done", "content": {kind: {}}}
    made: Json = {
        "operationId": f"{row.method.lower()} {AUTH}/{row.path}",
        "summary": row.description,
        "tags": ["administration" if row.path.startswith("admin/") else "login"],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", row.path)
        ],
        "responses": {"2XX": described, "default": {"description": "refused"}},
        "security": SECURITY[row.asks],
    }
    if row.body == "form":
        made["requestBody"] = {"content": {FORM: {"schema": {"type": "object"}}}}
    elif row.body == "json":
        schema = row.schema or {"type": "object"}
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return made
