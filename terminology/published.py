"""The CodeSystems, ValueSets and ConceptMaps that come with FHIR R4 itself.

They lie packed one by one in an indexed archive, made by ``scripts/compile_definitions.py``;
one that is asked for is unpacked, the last ones are kept.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final
from urllib.parse import quote, unquote

from fhir_server.formats.json import Limits, dumps, loads

ARCHIVE: Final = "r4.zip"
TYPES: Final = ("CodeSystem", "ValueSet", "ConceptMap")
LEFT_OUT: Final = ("text", "meta", "contact", "extension")
_LIMITS: Final = Limits(body=50_000_000, values=5_000_000)
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def pack(found: Iterable[Mapping[str, Any]]) -> bytes:
    """The archive of these resources; the same input gives the same bytes."""
    entries = {_name(r["resourceType"], r["url"]): r for r in found if r["resourceType"] in TYPES}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, resource in sorted(entries.items()):
            kept = {k: v for k, v in resource.items() if k not in LEFT_OUT}
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), dumps(kept), zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


def published(type_: str, url: str, version: str = "") -> Mapping[str, Any] | None:
    """The resource of this url, and of this version if one is asked for; not to be changed."""
    found = _read(_name(type_, url))
    return found if found is None or version in ("", found.get("version")) else None


@cache
def published_urls(type_: str) -> tuple[str, ...]:
    """The urls of all resources of a type, in order."""
    names = sorted(_archive().namelist())
    return tuple(unquote(name.split("/")[1]) for name in names if name.startswith(f"{type_}/"))


@cache
def published_maps() -> tuple[Mapping[str, Any], ...]:
    """All ConceptMaps of FHIR."""
    found = (published("ConceptMap", url) for url in published_urls("ConceptMap"))
    return tuple(one for one in found if one is not None)


@lru_cache(maxsize=64)
def _read(name: str) -> Mapping[str, Any] | None:
    try:
        packed = _archive().read(name)
    except KeyError:
        return None
    return loads(packed, _LIMITS)


@cache
def _archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(resources.files(__package__).joinpath(ARCHIVE).read_bytes()))


def _name(type_: str, url: str) -> str:
    return f"{type_}/{quote(url, safe='')}"
