"""A backend client that signs, rightly or wrongly."""

from __future__ import annotations

import base64
import json
import time
import uuid
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from fhir_server.auth.assertions import TYPE
from tests.serving import Server
from tests.smart.flow import AUTH, FORM, Json

TOKEN_URL = f"{AUTH}/token"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"}, private=True)
EC = ECKey.generate_key("P-384", {"kid": "ec"}, private=True)
OTHER = RSAKey.generate_key(2048, {"kid": "rsa"}, private=True)
WRONG_ALG = jws.JWSRegistry(algorithms=["RS256", "RS384", "ES384", "HS256"])


def public(*keys: RSAKey | ECKey) -> Json:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def claims(client: str = "backend", **changed: Any) -> Json:
    now = int(time.time())
    given = {
        "iss": client,
        "sub": client,
        "aud": TOKEN_URL,
        "exp": now + 200,
        "jti": str(uuid.uuid4()),
        **changed,
    }
    return {name: value for name, value in given.items() if value is not None}


def signed(
    payload: Json, key: RSAKey | ECKey = RSA, algorithm: str = "RS384", **header: Any
) -> str:
    whole = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **header}
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, payload, key, algorithms=[algorithm])


def raw(header: Json, payload: Any, signature: bytes = b"x") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts)


def ask(server: Server, assertion: str, scope: str = "system/*.rs", **more: str) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": assertion,
        "scope": scope,
        **more,
    }
    return server.send("POST", TOKEN_URL, content=urlencode(form), headers=FORM)
