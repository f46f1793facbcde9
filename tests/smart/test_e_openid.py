"""checks E: OpenID Connect."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet

from fhir_server.auth.keys import FILE, KEPT, Keys
from tests.serving import Server
from tests.smart.flow import AUTH, FHIR, App, Json, bearer, tokens_for

SCOPE = "openid fhirUser patient/*.rs"


def header_of(token: str) -> Json:
    part = token.split(".")[0]
    found: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_e01_e04_the_id_token(lasting: Server) -> None:
    tokens = tokens_for(App(lasting), SCOPE, request={"nonce": "n-0S6_WzA2Mj"})
    published = lasting.get(f"{AUTH}/jwks").json()
    header = header_of(tokens["id_token"])
    assert header["alg"] == "RS256" and header["kid"] in [k["kid"] for k in published["keys"]]
    verified = jwt.decode(tokens["id_token"], KeySet.import_key_set(published), ["RS256"])
    claims = verified.claims
    assert claims["iss"] == AUTH and claims["aud"] == "app"
    assert claims["exp"] > claims["iat"] and 0 < len(claims["sub"]) < 256
    assert claims["nonce"] == "n-0S6_WzA2Mj" and claims["auth_time"] <= claims["iat"]
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).decode().rstrip("=")
    assert claims["fhirUser"] == f"{FHIR}/Practitioner/d"
    assert lasting.get(claims["fhirUser"], headers=bearer(tokens)).status_code == 200
    assert "doc" not in str(claims)


def test_e02_discovery(smart: Server) -> None:
    answer = smart.get(f"{AUTH}/.well-known/openid-configuration")
    assert answer.headers["content-type"].startswith("application/json")
    found = answer.json()
    assert found["issuer"] == AUTH and found["response_types_supported"] == ["code"]
    assert found["subject_types_supported"] == ["public"]
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert found[name].startswith(AUTH)


def test_e03_only_public_members_are_published(smart: Server) -> None:
    for key in smart.get(f"{AUTH}/jwks").json()["keys"]:
        assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


def test_e03_rotation_keeps_the_old_key_published(tmp_path: Path) -> None:
    now = [1_000_000.0]
    keys = Keys(tmp_path, lambda: now[0])
    first = keys.signing().kid
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    other = Keys(tmp_path, lambda: now[0])
    assert other.signing().kid == first
    second = keys.rotate()
    assert [k["kid"] for k in other.published()["keys"]] == [second, first]
    assert other.signing().kid == second
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    now[0] += KEPT + 1
    third = other.rotate()
    assert [k["kid"] for k in keys.published()["keys"]] == [third, second]
    sealed = keys.seals.seal("x", b"content")
    assert Keys(tmp_path, lambda: now[0]).seals.open("x", sealed) == b"content"
    assert other.seals.open("y", sealed) is None
    assert sorted(os.listdir(tmp_path)) == [FILE]


def test_e05_fhir_user_only_with_its_scope(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), "openid patient/*.rs")
    claims: Any = jwt.decode(
        tokens["id_token"], KeySet.import_key_set(clinic.get(f"{AUTH}/jwks").json()), ["RS256"]
    ).claims
    assert "fhirUser" not in claims


def test_e06_each_kind_of_token_for_its_purpose(clinic: Server) -> None:
    assert "id_token" not in tokens_for(App(clinic), "fhirUser patient/*.rs")
    tokens = tokens_for(App(clinic), SCOPE)
    misused = {"authorization": f"Bearer {tokens['id_token']}"}
    assert clinic.get("Patient/a", headers=misused).status_code == 401
    assert clinic.get(f"{AUTH}/userinfo", headers=misused).status_code == 401


def test_userinfo(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), SCOPE)
    answer = clinic.get(f"{AUTH}/userinfo", headers=bearer(tokens))
    assert answer.json()["fhirUser"] == f"{FHIR}/Practitioner/d" and answer.json()["sub"]
    posted = clinic.send("POST", f"{AUTH}/userinfo", headers=bearer(tokens))
    assert posted.json() == answer.json()
    assert clinic.get(f"{AUTH}/userinfo").status_code == 401
    without = tokens_for(App(clinic), "patient/*.rs")
    assert clinic.get(f"{AUTH}/userinfo", headers=bearer(without)).status_code == 403
    system = clinic.bearer("system/*.rs openid")
    assert clinic.get(f"{AUTH}/userinfo", headers=system).status_code == 403
