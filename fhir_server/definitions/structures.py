"""StructureDefinitions in their compact form, packed one by one; those of R4 are an artefact.

Only what constrains is kept: no texts for people, no mappings, no examples.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final
from urllib.parse import quote, unquote

from fhir_server.formats.json import Limits, dumps, loads
from fhir_server.model.exchange import Json

ARCHIVE: Final = "r4-structures.zip"
_LIMITS: Final = Limits(body=50_000_000, string=5_000_000, values=5_000_000)
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_KEPT: Final = (
    "resourceType",
    "url",
    "version",
    "name",
    "kind",
    "abstract",
    "type",
    "baseDefinition",
    "derivation",
    "context",
    "contextInvariant",
)
_ELEMENT: Final = frozenset(
    {
        "id",
        "path",
        "sliceName",
        "slicing",
        "min",
        "max",
        "type",
        "contentReference",
        "maxLength",
        "isModifier",
    }
)
_VALUES: Final = ("fixed", "pattern", "minValue", "maxValue")
_BINDING: Final = ("strength", "valueSet")
_CONSTRAINT: Final = ("key", "severity", "human", "expression", "source")


def compact(structure: Json) -> Json:
    """The same StructureDefinition without what does not constrain."""
    kept: Json = {name: structure[name] for name in _KEPT if name in structure}
    for view in ("snapshot", "differential"):
        elements = structure.get(view, {}).get("element", ())
        if elements and (view == "snapshot" or "snapshot" not in kept):
            kept[view] = {"element": [_element(one) for one in elements]}
    return kept


def _element(element: Json) -> Json:
    kept = {
        name: value
        for name, value in element.items()
        if name in _ELEMENT or name.startswith(_VALUES)
    }
    if "binding" in element:
        kept["binding"] = _some(element["binding"], _BINDING)
    if "constraint" in element:
        kept["constraint"] = [_some(one, _CONSTRAINT) for one in element["constraint"]]
    return kept


def _some(value: Json, names: tuple[str, ...]) -> Json:
    return {name: value[name] for name in names if name in value}


class Archive:
    """Resources with a canonical url, packed one by one, by type, url and version."""

    def __init__(self, packed: bytes) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(packed))
        self._names = frozenset(self._zip.namelist())

    def find(self, type_: str, url: str) -> Json | None:
        """A new copy each time."""
        name = entry_name(type_, url)
        if name not in self._names:
            return None
        found: Json = loads(self._zip.read(name), _LIMITS)
        return found

    def urls(self) -> Iterator[tuple[str, str]]:
        """(type, url) of everything in it."""
        for name in sorted(self._names):
            type_, _, url = name.partition("/")
            yield type_, unquote(url)


def pack(found: Iterable[Json], level: int = 9) -> bytes:
    """The archive of these resources; the same input gives the same bytes."""
    entries = {entry_name(one["resourceType"], one["url"]): one for one in found}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, resource in sorted(entries.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            archive.writestr(info, dumps(resource), zipfile.ZIP_DEFLATED, level)
    return packed.getvalue()


def entry_name(type_: str, url: str) -> str:
    return f"{type_}/{quote(url, safe='')}"


@cache
def _archive() -> Archive:
    return Archive(resources.files(__package__).joinpath(ARCHIVE).read_bytes())


@lru_cache(maxsize=256)
def structure(url: str) -> Json | None:
    """A StructureDefinition of R4 by its url, without a version; not to be changed."""
    found: Any = _archive().find("StructureDefinition", url)
    return found  # type: ignore[no-any-return]
