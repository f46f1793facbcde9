"""An external OpenID provider, by which users sign in: code flow with PKCE, state and nonce.

https://openid.net/specs/openid-connect-core-1_0.html. One provider, pinned by its issuer; who a
user is follows from an explicit link to a claim of the id_token, never from an e-mail address.
The server stays the SMART authorization server: nothing of the provider's tokens is kept.
"""

from __future__ import annotations

import re
import tomllib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fhir_server.auth.assertions import BadAssertion, claims_of
from fhir_server.auth.keysets import KeySets
from fhir_server.auth.outbound import Outbound, OutboundError
from fhir_server.config import SettingsError
from fhir_server.model.problem import BadRequest

ALGORITHMS: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384"), "EC"),
}
"""Of id_tokens -> type of key. None is symmetric, and ``none`` is none."""
KEPT: Final = 3600
"""Seconds for which the provider's configuration is kept."""
LEEWAY: Final = 30
NEEDED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
MEMBERS: Final = {"issuer", "client_id", "secret_file", "claim", "name", "scope", "private"}
NEVER: Final = frozenset({"email", "name", "phone_number"})
"""Claims that change hands or that users choose themselves."""
_ISSUED: Final = re.compile(r"\s*[a-z][a-z0-9+.-]*://\S*\s", re.IGNORECASE)
"""An identity with its issuer, as ``Provider.identity`` makes them."""


class ProviderError(Exception):
    """Nobody is signed in; the text is for the operator's log."""


@dataclass(frozen=True, slots=True)
class Provider:
    """``claim``: by which a user is known. ``name``: on the button. ``private``: the provider lies
    in this network, which other addresses may not. ``secret``: empty for a public client.
    """

    issuer: str
    client_id: str
    secret: str
    claim: str
    name: str
    scope: str
    private: bool

    def identity(self, value: str) -> str:
        """How a user's row names a claim of this provider."""
        return f"{self.issuer} {value}"

    def meant(self, value: str) -> str:
        """The identity that an administrator names: by the claim alone, or whole, as it is shown.
        BadRequest if it is another issuer's.
        """
        claim = value.removeprefix(f"{self.issuer} ")
        if not claim.strip() or _ISSUED.match(claim):
            raise BadRequest(f"the identity is not a claim of {self.issuer}")
        return self.identity(claim)


def provider_of(path: Path) -> Provider:
    """What a file says. SettingsError in one line."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        secret = found.get("secret_file", "")
        kept = (path.parent / secret).read_text(encoding="utf-8").strip() if secret else ""
    except (OSError, ValueError) as error:
        raise SettingsError(f"VEHR_LOGIN_PROVIDER: {path} cannot be read: {error}") from None
    unknown = sorted(set(found) - MEMBERS)
    if unknown:
        raise SettingsError(f"VEHR_LOGIN_PROVIDER: {unknown[0]} is not a member: {sorted(MEMBERS)}")
    issuer, client = found.get("issuer"), found.get("client_id")
    if not isinstance(issuer, str) or not urlsplit(issuer).hostname or not client:
        raise SettingsError("VEHR_LOGIN_PROVIDER: issuer (a URL) and client_id are needed")
    claim = str(found.get("claim", "sub"))
    if claim in NEVER:
        raise SettingsError(f"VEHR_LOGIN_PROVIDER: users are not known by the claim {claim}")
    return Provider(
        issuer=issuer,
        client_id=str(client),
        secret=kept,
        claim=claim,
        name=str(found.get("name", urlsplit(issuer).hostname)),
        scope=str(found.get("scope", "openid")),
        private=found.get("private") is True,
    )


class External:
    """The provider at work. ``callback``: our address to which it sends users back."""

    def __init__(
        self, provider: Provider, outbound: Outbound, now: Callable[[], float], callback: str
    ) -> None:
        self.provider = provider
        self._outbound = outbound
        self._now = now
        self._callback = callback
        self._keys = KeySets(outbound, now)
        self._found: tuple[float, dict[str, Any]] | None = None

    async def login_url(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent. ProviderError if the provider cannot be reached."""
        found = await self._configuration()
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": self._callback,
            "scope": self.provider.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        place = found["authorization_endpoint"]
        return f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}"

    async def identity(self, code: str, nonce: str, verifier: str, issuer: str) -> str:
        """Who came back with a code. ``issuer``: the parameter ``iss`` (RFC 9207). ProviderError
        unless everything fits.
        """
        found = await self._configuration()
        told = found.get("authorization_response_iss_parameter_supported") is True
        if issuer != self.provider.issuer and (issuer or told):
            raise ProviderError("the answer is from another issuer")
        answer = await self._redeemed(found["token_endpoint"], code, verifier)
        token = answer.get("id_token")
        if not isinstance(token, str) or len(token) > 16_384:
            raise ProviderError("there is no id_token")
        claims = await self._verified(found["jwks_uri"], token)
        self._check(claims, nonce)
        value = claims.get(self.provider.claim)
        if not isinstance(value, str) or not 0 < len(value) <= 255:
            raise ProviderError(f"the claim {self.provider.claim} is missing")
        return self.provider.identity(value)

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        own, audience, now = self.provider.client_id, claims.get("aud"), self._now()
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self.provider.issuer:
            raise ProviderError("iss is another issuer")
        if own not in audiences or claims.get("azp", own) != own:
            raise ProviderError("the id_token is for another client")
        if len(audiences) > 1 and "azp" not in claims:
            raise ProviderError("azp is missing")
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int | float) or expires <= now - LEEWAY:
            raise ProviderError("the id_token has expired")
        if not isinstance(issued, int | float) or issued > now + LEEWAY:
            raise ProviderError("the id_token is from the future")
        if claims.get("nonce") != nonce:
            raise ProviderError("nonce is another one")

    async def _configuration(self) -> dict[str, Any]:
        now = self._now()
        if self._found is not None and now < self._found[0]:
            return self._found[1]
        url = self.provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            found = (await self._outbound.get_json(url)).content
        except OutboundError as error:
            raise ProviderError(f"the configuration of the provider: {error}") from None
        if not isinstance(found, dict) or found.get("issuer") != self.provider.issuer:
            raise ProviderError("the configuration is of another issuer")
        if not all(isinstance(found.get(name), str) for name in NEEDED):
            raise ProviderError("the configuration lacks an endpoint")
        if urlsplit(found["authorization_endpoint"]).scheme not in _schemes(self.provider.issuer):
            raise ProviderError("the authorization endpoint is not an https URL")
        self._found = (now + KEPT, found)
        return found

    async def _redeemed(self, url: str, code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "code_verifier": verifier,
        }
        own, headers = self.provider.client_id, {}
        if self.provider.secret:
            pair = f"{quote(own, safe='')}:{quote(self.provider.secret, safe='')}".encode()
            headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        else:
            form["client_id"] = own
        try:
            answer = (await self._outbound.post_form(url, form, headers)).content
        except OutboundError as error:
            raise ProviderError(f"the token endpoint: {error}") from None
        return answer if isinstance(answer, dict) else {}

    async def _verified(self, jwks: str, token: str) -> dict[str, Any]:
        """The claims of a token that the provider signed."""
        try:
            header = dict(jws.extract_compact(token.encode()).protected)
            algorithm, kid = header.get("alg"), header.get("kid", "")
            if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
                raise ProviderError("the signature is by another alg")
            rows = [
                row
                for row in await self._keys.keys(jwks, kid if isinstance(kid, str) else "")
                if row.get("kty") == ALGORITHMS[algorithm]
                and row.get("use", "sig") == "sig"
                and row.get("alg", algorithm) == algorithm
                and (not kid or row.get("kid") == kid)
            ]
            if len(rows) != 1:
                raise ProviderError("kid does not name exactly one key")
            made = ECKey if rows[0]["kty"] == "EC" else RSAKey
            key: RSAKey | ECKey = made.import_key(rows[0])
            verified = jws.deserialize_compact(token, key, algorithms=[algorithm])
            return claims_of(verified.payload)
        except OutboundError as error:
            raise ProviderError(f"the keys of the provider: {error}") from None
        except (JoseError, BadAssertion, ValueError, TypeError, KeyError):
            raise ProviderError("the id_token is not signed by the provider") from None


def _schemes(issuer: str) -> tuple[str, ...]:
    """A provider on this machine, for tests, may be without TLS."""
    return ("http", "https") if issuer.startswith("http:") else ("https",)
