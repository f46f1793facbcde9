"""``/models`` and ``/deid``: the registries of models and of de-identification profiles under short
URLs, for tools that speak no FHIR.

Each URL is an operation of the FHIR base (``operations/model_registry.py``,
``operations/deid_profiles.py``), answered by it: the same gate, the same audit. A zip or tar
archive may be the body of a push as it is, the TOML of a training and the JSON of a profile
likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fhir_server.http.faced import as_binary, found
from fhir_server.http.middleware import HEADERS
from fhir_server.http.respond import Asgi, Receive, Scope, Send, deliver, rendered
from fhir_server.model.problem import Problem

ARCHIVES: Final = frozenset(
    {"application/zip", "application/x-tar", "application/gzip", "application/x-gtar"}
    | {"application/octet-stream", "application/x-zip-compressed", "application/x-gzip"}
)
SPECIFICATIONS: Final = frozenset({"application/toml"})
"""As which the specification of a training may be sent."""


@dataclass(frozen=True, slots=True)
class ModelUrl:
    """``pattern``: below ``/models``; what it captures becomes a parameter of ``operation``.
    ``sends``: the method of that, if it is another."""

    method: str
    pattern: str
    operation: str
    description: str
    sends: str = ""


URLS: Final = (
    ModelUrl("GET", "", "models", "The models, their versions and aliases"),
    ModelUrl("POST", "", "model-push", "A version more, from an archive"),
    ModelUrl("POST", "train", "model-train", "Make a model from the record, as a job"),
    ModelUrl("GET", "{model}", "models", "One model with its card"),
    ModelUrl("GET", "{model}/versions/{version}/card", "model-card", "The card of one version"),
    ModelUrl("GET", "{model}/monitor", "model-monitor", "How its versions do in use"),
    ModelUrl("POST", "{model}/activate", "model-activate", "Put a version behind an alias"),
    ModelUrl("POST", "{model}/rollback", "model-rollback", "Back to the version before"),
    ModelUrl("POST", "{model}/retire", "model-retire", "Take a version out of use"),
)


DEID: Final = (
    ModelUrl("GET", "profiles", "deid-profiles", "The profiles of de-identification"),
    ModelUrl("POST", "profiles/validate", "deid-profile-validate", "What is wrong with a profile"),
    ModelUrl("GET", "profiles/{name}", "deid-profiles", "One profile with its file"),
    ModelUrl("PUT", "profiles/{name}", "deid-profile-add", "Put a version in force", "POST"),
    ModelUrl("DELETE", "profiles/{name}", "deid-profile-remove", "Take it out of force", "POST"),
)
DOCUMENTS: Final = frozenset({"application/json"})
"""As which the file of a profile may be sent."""


class ModelFace:
    """``base``: the FHIR base, at ``path`` (``/fhir``). ``urls``: the rows; ``raw``: media types of
    bodies that are taken as they are."""

    def __init__(
        self,
        base: Asgi,
        path: str,
        urls: Sequence[ModelUrl] = URLS,
        raw: frozenset[str] = ARCHIVES | SPECIFICATIONS,
    ) -> None:
        self._base = base
        self._path = path.encode()
        self._urls = urls
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope = self._moved(scope)
            media = scope[HEADERS].get("content-type", "").partition(";")[0].strip().lower()
            if media in self._raw and scope["method"] == "POST":
                receive = as_binary(receive, media)
                scope[HEADERS] = {**scope[HEADERS], "content-type": "application/fhir+json"}
        except Problem as problem:
            await deliver(rendered(problem), scope, send)
            return
        await self._base(scope, receive, send)

    def _moved(self, scope: Scope) -> Scope:
        """The request to the operation. Raises NotFound, MethodNotAllowed."""
        url, captured = found(self._urls, scope)
        query = scope["query_string"]
        named = [f"{name}={quote(value, safe='')}".encode() for name, value in captured.items()]
        query = b"&".join(filter(None, [query, *named]))
        path = self._path + f"/${url.operation}".encode()
        moved = {"raw_path": path, "path": path.decode(), "query_string": query}
        return {**scope, **moved, "method": url.sends or scope["method"]}
