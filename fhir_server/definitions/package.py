"""Reading a FHIR package: https://hl7.org/fhir/R4/packages.html (an npm tarball)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

from fhir_server.formats.json import Limits, loads
from fhir_server.model.exchange import Json

_FOLDER = "package/"
_NOT_RESOURCES = ("package/package.json", "package/.index.json")
_LIMITS = Limits(body=50_000_000, string=10_000_000, values=5_000_000)


def resources(tarball: IO[bytes]) -> Iterator[Json]:
    """Every resource of the package. Nothing is extracted to disk."""
    with tarfile.open(fileobj=tarball, mode="r:gz") as archive:
        for member in archive:
            if not member.isfile() or not _holds_resource(member.name):
                continue
            file = archive.extractfile(member)
            assert file is not None
            resource = loads(file.read(), _LIMITS)
            if "resourceType" in resource:
                yield resource


def _holds_resource(name: str) -> bool:
    return (
        name.startswith(_FOLDER)
        and name.count("/") == 1
        and name.endswith(".json")
        and name not in _NOT_RESOURCES
    )
