"""What an endpoint of the authorization server takes and gives, without a socket.

An endpoint is ``async (Server, Ask) -> Reply``; it raises a refusal where the answer is no.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from fhir_server.formats.json import dumps

Pairs = tuple[tuple[str, str], ...]
NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``path``: below ``/auth/``. ``address``: of the client. ``body``: JSON.
    ``request``: its id. ``captured``: what stands in the place of names in the path of a row.
    """

    method: str
    path: str
    query: Pairs = ()
    form: Pairs = ()
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    request: str = ""
    captured: tuple[str, ...] = ()

    @property
    def given(self) -> Pairs:
        """The parameters: of the form, or of the URL."""
        return self.form if self.method == "POST" else self.query

    def value(self, name: str) -> str:
        """The only value of a parameter; empty if there is none. BadParameters for several."""
        found = [value for key, value in self.given if key == name]
        if len(found) > 1:
            raise OAuthRefusal("invalid_request", f"{name} is given twice")
        return found[0] if found else ""

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.given if key == name]

    def repeated(self) -> set[str]:
        return {name for name, count in Counter(n for n, _ in self.given).items() if count > 1}

    def bearer(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(slots=True)
class Reply:
    """``cookies``: whole Set-Cookie values."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cookies: tuple[str, ...] = ()


class PageRefusal(Exception):
    """Refused on a page of our own: nothing is known to which one could redirect.

    ``key``: of the message catalogue.
    """

    def __init__(self, key: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(key)
        self.key = key
        self.status = status
        self.headers = headers or {}


class OAuthRefusal(Exception):
    """An error of RFC 6749, section 5.2, as JSON."""

    def __init__(
        self, error: str, description: str, status: int = 400, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers or {}

    def reply(self) -> Reply:
        document = {"error": self.error, "error_description": self.description}
        return json_reply(document, self.status, self.headers)


class RedirectRefusal(Exception):
    """An error of RFC 6749, section 4.1.2.1, at an address that was checked before."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


def json_reply(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    return Reply(status, dumps(dict(document)), {**NO_STORE, **(headers or {})})


def redirect(url: str, cookies: tuple[str, ...] = ()) -> Reply:
    """To an address that is known to be meant: a page of ours, or a registered one."""
    return Reply(303, headers={**NO_STORE, "Location": url}, cookies=cookies)


def with_query(uri: str, values: Mapping[str, str]) -> str:
    """An address with further query parameters."""
    glue = "&" if urlsplit(uri).query else "" if uri.endswith("?") else "?"
    return f"{uri}{glue}{urlencode(values)}"
