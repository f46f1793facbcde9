"""FHIR packages: what is in them, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fhir_server.definitions import packages
from fhir_server.definitions.packages import PackageError, PackageTooLarge, read_package, satisfies
from fhir_server.definitions.structures import Archive

URL = "http://example.org/ValueSet/colours"
SET = {"resourceType": "ValueSet", "url": URL, "status": "active"}
MANIFEST: dict[str, Any] = {
    "name": "org.example.test",
    "version": "1.2.0",
    "fhirVersions": ["4.0.1"],
    "dependencies": {"hl7.fhir.r4.core": "4.0.1", "org.example.base": "1.0.x"},
}


def member(name: str, content: bytes = b"{}", type_: bytes = tarfile.REGTYPE) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.size = type_, len(content) if type_ == tarfile.REGTYPE else 0
    return info, content


def packed(*members: Any, manifest: Any = MANIFEST) -> bytes:
    file = io.BytesIO()
    whole = [member("package/package.json", json.dumps(manifest).encode()), *members]
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in whole:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_what_a_package_holds() -> None:
    found = read_package(
        packed(
            member("package/a.json", json.dumps(SET).encode()),
            member("package/b.json", b'{"resourceType":"Patient","id":"x"}'),
            member("package/example/c.json", b"no JSON at all"),
            member("package/.index.json", b'{"files":[]}'),
        )
    )
    assert found.id == "org.example.test#1.2.0"
    assert dict(found.dependencies) == {"org.example.base": "1.0.x"}
    assert dict(found.counts) == {"ValueSet": 1}
    assert Archive(found.archive).find("ValueSet", URL) == SET
    assert Archive(found.archive).find("ValueSet", "urn:other") is None


def test_a_folder_is_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps(MANIFEST))
    (folder / "a.json").write_text(json.dumps(SET))
    whole = read_package(packed(member("package/a.json", json.dumps(SET).encode())))
    assert read_package(tmp_path) == read_package(folder) == whole
    (folder / "b.json").symlink_to(folder / "a.json")
    with pytest.raises(PackageError, match="links"):
        read_package(tmp_path)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (member("../evil.json"), "leads out"),
        (member("package/../../evil.json"), "leads out"),
        (member("/etc/evil.json"), "leads out"),
        (member("C:/evil.json"), "leads out"),
        (member("package\\..\\evil.json"), "leads out"),
        (member("package/link.json", type_=tarfile.SYMTYPE), "links"),
        (member("package/link.json", type_=tarfile.LNKTYPE), "links"),
        (member("package/pipe.json", type_=tarfile.FIFOTYPE), "links"),
        (member("package/device", type_=tarfile.CHRTYPE), "links"),
        (member("package/package.json"), "twice"),
        (member("./package/package.json"), "twice"),
        (member("package/a.json", b"{"), "a.json"),
        (member("package/a.json", b"[]"), "not a JSON object"),
    ],
)
def test_what_could_harm_is_refused(bad: Any, why: str) -> None:
    with pytest.raises(PackageError, match=why):
        read_package(packed(bad))


def test_a_url_that_comes_twice_is_refused() -> None:
    body = json.dumps(SET).encode()
    with pytest.raises(PackageError, match="comes twice"):
        read_package(packed(member("package/a.json", body), member("package/b.json", body)))


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (MANIFEST | {"name": "../evil"}, "no name"),
        (MANIFEST | {"name": None}, "no name"),
        (MANIFEST | {"version": "1/2"}, "no version"),
        (MANIFEST | {"fhirVersions": ["5.0.0"]}, "not for 4.0.1"),
        (MANIFEST | {"dependencies": []}, "an object"),
    ],
)
def test_a_manifest_that_says_something_else(manifest: Any, why: str) -> None:
    with pytest.raises(PackageError, match=why):
        read_package(packed(manifest=manifest))


def test_what_is_no_package() -> None:
    for body in (b"", b"plain", gzip.compress(b"plain"), packed()[:-60]):
        with pytest.raises(PackageError):
            read_package(body)
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w:gz"):
        pass
    with pytest.raises(PackageError, match=r"no package/package\.json"):
        read_package(empty.getvalue())


def test_bombs_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small when packed: in a file that is read, in one that is not, in a header."""
    monkeypatch.setattr(packages, "MAX_UNPACKED", 2_000_000)
    zeros = bytes(5_000_000)
    for bad in (member("package/a.json", zeros), member("package/other/a.bin", zeros)):
        assert len(packed(bad)) < 20_000
        with pytest.raises(PackageTooLarge, match="unpacks to at most"):
            read_package(packed(bad))
    info, content = member("package/a.json")
    info.pax_headers = {"comment": "x" * 5_000_000}
    with pytest.raises(PackageTooLarge, match="unpacks to at most"):
        read_package(packed((info, content)))
    monkeypatch.setattr(packages, "MAX_FILES", 2)
    with pytest.raises(PackageTooLarge, match="at most 2 files"):
        read_package(packed(*(member(f"package/{i}.txt") for i in range(3))))
    monkeypatch.setattr(packages, "MAX_PACKED", 10)
    with pytest.raises(PackageTooLarge, match="at most 10 bytes"):
        read_package(packed())
    assert PackageTooLarge.status == 413


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("1.2.0", "1.2.0", True),
        ("1.2.0", "1.2.x", True),
        ("1.2.0", "1.2", True),
        ("1.2.0", "latest", True),
        ("1.2.0+build7", "1.2.0", True),
        ("1.2.0", "1.3.x", False),
        ("1.2.0", "1.2.1", False),
        ("1.2.0-ballot", "1.2.0", False),
        ("5.1.0-cibuild", "5.1.0-cibuild", True),
    ],
)
def test_versions(version: str, wanted: str, fits: bool) -> None:
    assert satisfies(version, wanted) is fits


def test_published_guides_are_packages(shared: Path) -> None:
    found = read_package(shared / "ig" / "hl7.fhir.uv.ipa-1.0.0.tgz")
    assert found.id == "hl7.fhir.uv.ipa#1.0.0" and found.counts["StructureDefinition"] == 12
