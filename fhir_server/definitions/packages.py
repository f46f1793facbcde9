"""FHIR packages that are installed: https://hl7.org/fhir/R4/packages.html

An npm tarball or a folder. Nothing is extracted to disk; what could be meant to harm (links,
absolute paths, ``..``, names that come twice, more content than any package has) is refused.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from fhir_server.definitions.structures import compact, pack
from fhir_server.formats.json import Limits, loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Problem, TooLarge

CANONICAL: Final = frozenset(
    {
        "StructureDefinition",
        "ValueSet",
        "CodeSystem",
        "ConceptMap",
        "Questionnaire",
        "SearchParameter",
        "CapabilityStatement",
    }
)
"""Types that are kept of a package: what validation, terminology, searches and the server's own
statement use."""
CORE: Final = frozenset({"hl7.fhir.r4.core", "hl7.fhir.r4.expansions", "hl7.fhir.core"})
"""What the server has by itself."""
MANIFEST: Final = "package.json"
FOLDER: Final = "package/"
MAX_PACKED: Final = 64_000_000
MAX_UNPACKED: Final = 256_000_000
MAX_FILES: Final = 20_000
_LIMITS: Final = Limits(body=50_000_000, string=10_000_000, values=5_000_000)
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+", re.ASCII)
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}", re.ASCII)
_TEXTS: Final = ("text", "contact", "useContext", "jurisdiction", "copyright", "purpose")


class PackageError(BadRequest):
    """A package that is not installed; the text is for who has given it."""


class PackageTooLarge(PackageError):
    """It has more bytes or files, or unpacks to more, than a package may (413)."""

    status, code = TooLarge.status, TooLarge.code


@dataclass(frozen=True, slots=True)
class Package:
    """``dependencies``: name -> version, that of FHIR itself left out. ``archive``: its
    canonical resources as ``structures.pack`` packs them. ``counts``: type -> how many.
    """

    name: str
    version: str
    canonical: str
    dependencies: Mapping[str, str]
    counts: Mapping[str, int]
    archive: bytes

    @property
    def id(self) -> str:
        return f"{self.name}#{self.version}"


def read_package(source: Path | bytes) -> Package:
    """The package in a .tgz file, its bytes, or a folder. Raises PackageError."""
    if isinstance(source, Path):
        if source.is_dir():
            return _package(_of_folder(source))
        if source.stat().st_size > MAX_PACKED:
            raise PackageTooLarge(f"a package has at most {MAX_PACKED} bytes")
        source = source.read_bytes()
    if len(source) > MAX_PACKED:
        raise PackageTooLarge(f"a package has at most {MAX_PACKED} bytes")
    return _package(_of_tarball(source))


class _Counted(io.RawIOBase):
    """What comes out of a gzip stream, up to a limit: headers of tar are read whole."""

    def __init__(self, packed: bytes) -> None:
        self._stream = gzip.GzipFile(fileobj=io.BytesIO(packed))
        self._left = MAX_UNPACKED

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(found)
        if self._left < 0:
            raise PackageTooLarge(f"a package unpacks to at most {MAX_UNPACKED} bytes")
        return found


def _of_tarball(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, content) of its files."""
    stream: Any = _Counted(packed)
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
            yield from _members(archive)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PackageError(f"this is no package (.tgz): {error}") from None


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    names: set[str] = set()
    for member in archive:
        name = _safe(member.name)
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise PackageError(f"{name[:200]}: links and devices have no place in a package")
        if name in names:
            raise PackageError(f"{name[:200]} comes twice")
        names.add(name)
        if len(names) > MAX_FILES:
            raise PackageTooLarge(f"a package has at most {MAX_FILES} files")
        if _wanted(name):
            file: IO[bytes] | None = archive.extractfile(member)
            assert file is not None
            yield name, file.read()


def _safe(name: str) -> str:
    """The name, if it stays within the package."""
    parts = name.removeprefix("./").split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or ":" in parts[0]:
        raise PackageError(f"{name[:200]!r} leads out of the package")
    return "/".join(part for part in parts if part not in ("", "."))


def _wanted(name: str) -> bool:
    return name.startswith(FOLDER) and name.count("/") == 1 and name.endswith(".json")


def _of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    inner = folder if (folder / MANIFEST).is_file() else folder / "package"
    found = sorted(inner.glob("*.json")) if inner.is_dir() else []
    if len(found) > MAX_FILES:
        raise PackageTooLarge(f"a package has at most {MAX_FILES} files")
    left = MAX_UNPACKED
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise PackageError(f"{path.name}: links have no place in a package")
        left -= path.stat().st_size
        if left < 0:
            raise PackageTooLarge(f"a package has at most {MAX_UNPACKED} bytes")
        yield FOLDER + path.name, path.read_bytes()


def _package(files: Iterator[tuple[str, bytes]]) -> Package:
    manifest: Json | None = None
    kept: dict[tuple[str, str], Json] = {}
    for name, content in files:
        file = name.removeprefix(FOLDER)
        found = _parsed(file, content)
        if file == MANIFEST:
            manifest = found
        elif file != ".index.json" and found.get("resourceType") in CANONICAL:
            _keep(kept, file, found)
    if manifest is None:
        raise PackageError("there is no package/package.json: this is no FHIR package")
    return _made(manifest, kept)


def _parsed(name: str, content: bytes) -> Json:
    try:
        return loads(content, _LIMITS)
    except Problem as problem:
        raise PackageError(f"{name[:200]}: {problem}") from None


def _keep(kept: dict[tuple[str, str], Json], file: str, found: Json) -> None:
    url = found.get("url")
    if not isinstance(url, str) or ":" not in url:
        return  # such as an example; nothing could name it
    key = found["resourceType"], url
    if key in kept:
        raise PackageError(f"{file[:200]}: {url[:200]} comes twice")
    lean = {name: value for name, value in found.items() if name not in _TEXTS}
    kept[key] = compact(lean) if key[0] == "StructureDefinition" else lean


def _made(manifest: Json, kept: Mapping[tuple[str, str], Json]) -> Package:
    name, version = manifest.get("name"), manifest.get("version")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PackageError(f"package.json: {str(name)[:100]!r} is no name of a package")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise PackageError(f"package.json: {str(version)[:100]!r} is no version")
    told = manifest.get("fhirVersions", manifest.get("fhir-version-list", ["4.0.1"]))
    if not isinstance(told, list) or not any(str(one).startswith("4.0") for one in told):
        raise PackageError(f"{name}#{version} is for FHIR {told}, not for 4.0.1")
    needs = manifest.get("dependencies", {})
    if not isinstance(needs, dict):
        raise PackageError("package.json: dependencies are an object")
    counts: dict[str, int] = {}
    for type_, _ in kept:
        counts[type_] = counts.get(type_, 0) + 1
    return Package(
        name,
        version,
        str(manifest.get("canonical", "")),
        {str(one): str(wanted) for one, wanted in needs.items() if one not in CORE},
        dict(sorted(counts.items())),
        pack(kept.values(), level=6),
    )


def satisfies(version: str, wanted: str) -> bool:
    """Is an installed version one that is asked for? ``4.0.x``, ``4.0``, ``latest`` and
    ``current`` ask for several; the build after ``+`` does not count.
    """
    if wanted in ("", "*", "x", "latest", "current", "dev") or version == wanted:
        return True
    asked = wanted.split("+")[0].split(".")
    have = version.split("+")[0].split(".")
    if len(asked) < 3 and "-" not in wanted:
        return have[: len(asked)] == asked
    return len(asked) == len(have) and all(
        one in ("x", "*") or one == other for one, other in zip(asked, have, strict=True)
    )
