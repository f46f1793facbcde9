"""What the bodies of the administration API hold: JSON Schema 2020-12, for judging them and for
the OpenAPI document.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.access.roles import ROLES

Schema = dict[str, Any]


def _object(required: tuple[str, ...], properties: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
    }


_TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 256}
_PASSWORD: Final[Schema] = {"type": "string", "minLength": 10, "maxLength": 256}
_FLAG: Final[Schema] = {"type": "boolean"}
_INSTANT: Final[Schema] = {"type": "string", "format": "date-time", "maxLength": 40}
_ROLE: Final[Schema] = {"type": "string", "enum": list(ROLES)}
_PERSON: Final[Schema] = {"type": "string", "maxLength": 128}
_URLS: Final[Schema] = {"type": "array", "items": {"type": "string", "maxLength": 2048}}
_KEYS: Final[Schema] = {
    "type": "object",
    "required": ["keys"],
    "properties": {"keys": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
}

_OF_CLIENT: Final[dict[str, Schema]] = {
    "name": _TEXT,
    "redirects": _URLS,
    "scope": {"type": "string", "maxLength": 8192},
    "secret": {"type": "string", "minLength": 16, "maxLength": 256},
    "jwks": _KEYS,
    "jwksUri": {"type": "string", "pattern": "^https?://", "maxLength": 2048},
    "disabled": _FLAG,
}

NEW_USER: Final = _object(
    ("name", "role"), {"name": _TEXT, "role": _ROLE, "fhirUser": _PERSON, "password": _PASSWORD}
)
USER_CHANGE: Final = _object(
    (),
    {
        "role": _ROLE,
        "fhirUser": _PERSON,
        "disabled": _FLAG,
        "password": _PASSWORD,
        "secondFactor": {"const": False},
        "identity": {"type": "string", "maxLength": 512},
    },
)
NEW_CLIENT: Final = _object(("id",), {"id": _TEXT, **_OF_CLIENT})
CLIENT_CHANGE: Final = _object((), _OF_CLIENT)
NEW_RELATION: Final = _object(
    ("user", "patient", "kind"),
    {
        "user": _TEXT,
        "patient": _TEXT,
        "kind": _TEXT,
        "start": _INSTANT,
        "end": _INSTANT,
        "untilAge": {"type": "integer", "minimum": 1, "maximum": 150},
    },
)
INVITATION: Final[Schema] = {
    "type": "object",
    "properties": {
        "scope": {"type": "string", "minLength": 1, "maxLength": 8192},
        "minutes": {"type": "integer", "minimum": 1, "maximum": 60 * 24 * 30},
    },
    "additionalProperties": False,
}
RELATION_END: Final = _object(("user", "patient"), {"user": _TEXT, "patient": _TEXT, "kind": _TEXT})
