"""A guide's folder as a FHIR package: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification

``package.json`` and one folder per resource type; ``examples`` and ``pagecontent`` go to the
places that the specification has for them.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fhir_server.definitions.packages import FOLDER, MANIFEST, PackageError, read_package
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem

EXAMPLES: Final = "examples"
PAGES: Final = "pagecontent"
INDEXED: Final = ("url", "version", "kind", "type")
"""Members of a resource that ``.index.json`` repeats."""


def pack_guide(folder: Path) -> bytes:
    """The .tgz; the same input gives the same bytes. PackageError: what would not install."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise PackageError(f"there is no {MANIFEST} in {folder}")
    files = {FOLDER + MANIFEST: manifest.read_bytes()}
    for place, found in (("", _definitions(folder)), ("example/", _resources(folder / EXAMPLES))):
        rows = []
        for name, content, resource in found:
            if FOLDER + place + name in files:
                raise PackageError(f"{name} comes twice")
            files[FOLDER + place + name] = content
            rows.append(_row(name, resource))
        index = {"index-version": 1, "files": sorted(rows, key=lambda row: str(row["filename"]))}
        files[f"{FOLDER}{place}.index.json"] = json.dumps(index, indent=2).encode()
    for path in sorted(folder.glob(f"{PAGES}/*.md")):
        files[f"{FOLDER}other/{path.name}"] = path.read_bytes()
    packed = _tgz(files)
    read_package(packed)
    return packed


def _definitions(folder: Path) -> Iterator[tuple[str, bytes, Json]]:
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and inner.name not in (EXAMPLES, PAGES):
            yield from _resources(inner)


def _resources(folder: Path) -> Iterator[tuple[str, bytes, Json]]:
    """(name in the package, content, resource)."""
    for path in sorted(folder.glob("*.json")):
        content = path.read_bytes()
        try:
            resource: Any = loads(content)
        except Problem as problem:
            raise PackageError(f"{path.name}: {problem}") from None
        if not isinstance(resource, dict) or "id" not in resource or "resourceType" not in resource:
            raise PackageError(f"{path.name} is no resource with an id")
        yield f"{resource['resourceType']}-{resource['id']}.json", content, resource


def _row(name: str, resource: Json) -> Json:
    told = {key: resource[key] for key in INDEXED if isinstance(resource.get(key), str)}
    about = {"filename": name, "resourceType": resource["resourceType"], "id": resource["id"]}
    return about | told


def _tgz(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
