"""The guide of this server itself (``ig/``): its profiles and terminology need no installation.

It lies beside the packages of the program, in a repository as in an installed distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from fhir_server.definitions.packages import CANONICAL
from fhir_server.definitions.structures import compact
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json

FOLDER: Final = Path(__file__).resolve().parents[2] / "ig"
NAMESPACE: Final = "urn:vehr:"
PROFILES: Final = NAMESPACE + "fhir:StructureDefinition:"


def profile(name: str) -> Json:
    """``meta`` of a resource that the server makes by one of its own profiles."""
    return {"profile": [PROFILES + name]}


def own(type_: str, url: str) -> Json | None:
    """What the guide defines under this url, without a version; not to be changed."""
    return _resources().get((type_, url)) if url.startswith(NAMESPACE) else None


def own_maps() -> Iterator[tuple[str, Json]]:
    """(url, ConceptMap) of the guide."""
    for (type_, url), found in _resources().items():
        if type_ == "ConceptMap":
            yield url, found


@cache
def _resources() -> dict[tuple[str, str], Json]:
    found: dict[tuple[str, str], Json] = {}
    for type_ in sorted(CANONICAL):
        for path in sorted((FOLDER / type_).glob("*.json")):
            resource: Json = loads(path.read_bytes())
            kept = compact(resource) if type_ == "StructureDefinition" else resource
            found[type_, resource["url"]] = kept
    return found
