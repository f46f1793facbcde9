"""Client assertions: https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html

A JWT that a client signs with a registered key. Exactly one key must match by ``kid``; keys
in the JWT itself, or at an address that is not the registered one, are never looked at.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fhir_server.access.ports import LedgerWrite
from fhir_server.auth.clients import Client
from fhir_server.auth.keysets import KeySets, rows_of
from fhir_server.auth.outbound import Outbound, OutboundError
from fhir_server.auth.records import Records, digest

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS: Final = {"RS384": "RSA", "ES384": "EC"}
LONGEST: Final = 8192
LIFE: Final = 300
SKEW: Final = 5
"""Seconds that ``exp`` may be beyond LIFE because clocks differ."""
LEEWAY: Final = 30
"""Seconds that ``iat`` and ``nbf`` may be ahead."""
LEAST_BITS: Final = 2048
JTI: Final = "jti"
REFUSED: Final = frozenset({"jwk", "x5c", "x5u", "crit", "b64"})
"""Header members that bring keys or change the rules."""


class BadAssertion(Exception):
    """The text is for the client's developer; it tells nothing of other clients."""


class Assertions:
    """Verifies assertions for one token endpoint."""

    def __init__(self, records: Records, outbound: Outbound, token_url: str) -> None:
        self._records = records
        self._sets = KeySets(outbound, lambda: records.now())
        self._token_url = token_url

    async def verify(self, client: Client, assertion: str) -> None:
        """BadAssertion unless this client signed it, for us, now, and for the first time."""
        header, signed = _opened(assertion)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise BadAssertion("alg is not RS384 or ES384")
        if not isinstance(kid, str) or not kid:
            raise BadAssertion("kid is missing")
        if REFUSED & set(header) or ("jku" in header and header["jku"] != client.keys):
            raise BadAssertion("the header names keys that are not the registered ones")
        key = await self._key(client, kid, algorithm)
        try:
            verified = jws.deserialize_compact(assertion, key, algorithms=[algorithm])
        except (JoseError, ValueError, TypeError):
            raise BadAssertion("the signature is not valid") from None
        if verified.payload != signed.payload:
            raise BadAssertion("the signature is not valid")
        await self._claims(client, verified.payload)

    async def _claims(self, client: Client, payload: bytes) -> None:
        claims = claims_of(payload)
        now = self._records.now()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != client.id or claims.get("sub") != client.id:
            raise BadAssertion("iss and sub are not the client_id")
        if self._token_url not in audiences:
            raise BadAssertion("aud is not the token endpoint")
        expires = claims.get("exp")
        if type(expires) is not int or not now < expires <= now + LIFE + SKEW:
            raise BadAssertion("exp is not within the next five minutes")
        for name in ("iat", "nbf"):
            moment = claims.get(name, 0)
            if type(moment) not in (int, float) or moment > now + LEEWAY:
                raise BadAssertion(f"{name} is in the future")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= 512:
            raise BadAssertion("jti is missing")
        write = LedgerWrite(JTI, digest(f"{client.id} {jti}"), {}, 0, expires + 2 * LEEWAY)
        if not await self._records.commit(write):
            raise BadAssertion("jti was used before")

    async def _key(self, client: Client, kid: str, algorithm: str) -> RSAKey | ECKey:
        matching = [k for k in await self._keys(client, kid) if k.get("kid") == kid]
        if len(matching) != 1:
            raise BadAssertion("kid does not name exactly one registered key")
        row = matching[0]
        if row.get("kty") != ALGORITHMS[algorithm] or row.get("alg", algorithm) != algorithm:
            raise BadAssertion("the key is not for this alg")
        if row.get("use", "sig") != "sig":
            raise BadAssertion("the key is not for signatures")
        try:
            if row["kty"] == "EC":
                if row.get("crv") != "P-384":
                    raise BadAssertion("ES384 needs P-384")
                return ECKey.import_key(row)
            key = RSAKey.import_key(row)
            if key.raw_value.key_size < LEAST_BITS:
                raise BadAssertion(f"the key is shorter than {LEAST_BITS} bits")
            return key
        except (JoseError, ValueError, TypeError, KeyError):
            raise BadAssertion("the registered key cannot be used") from None

    async def _keys(self, client: Client, kid: str) -> list[dict[str, Any]]:
        if not isinstance(client.keys, str):
            return rows_of(client.keys)
        try:
            return await self._sets.keys(client.keys, kid)
        except OutboundError as error:
            raise BadAssertion("the registered key set cannot be fetched") from error


def issuer_of(assertion: str) -> str:
    """The client that an assertion says it is from; to be verified. Empty if unreadable."""
    try:
        _, signed = _opened(assertion)
        issuer = claims_of(signed.payload).get("iss")
    except BadAssertion:
        return ""
    return issuer if isinstance(issuer, str) else ""


def _opened(assertion: str) -> tuple[dict[str, Any], jws.CompactSignature]:
    if len(assertion) > LONGEST:
        raise BadAssertion("the assertion is too long")
    try:
        signed = jws.extract_compact(assertion.encode())
        return dict(signed.protected), signed
    except (JoseError, ValueError, TypeError):
        raise BadAssertion("the assertion is not a JWT") from None


def claims_of(payload: bytes) -> dict[str, Any]:
    """The claims of a JWT. BadAssertion for what is not a JSON object; NaN and Infinity, which
    no comparison of moments holds back, are not JSON.
    """
    try:
        claims = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadAssertion("the payload is not JSON") from None
    if not isinstance(claims, dict):
        raise BadAssertion("the payload is not an object")
    return claims


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
