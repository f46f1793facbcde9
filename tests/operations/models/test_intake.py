"""What a stranger sends as a model package: taken only as the four or more files that it is."""

from __future__ import annotations

import asyncio
import io
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

import odd_graphs as graphs
import packages
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from onnx import ModelProto

from fhir_server.model.problem import Unprocessable
from operations.models.intake.archive import ArchiveError, unpack
from operations.models.intake.graph import GraphError, judge
from operations.models.intake.receiving import Reading, receive
from operations.models.intake.signing import Keys, SignatureError, sign, signed
from operations.models.package import digests
from operations.models.registry import SHIPPED

FILES = packages.parts()


def test_every_form_of_archive_gives_the_same_files() -> None:
    for archive in (
        packages.zipped(FILES),
        packages.zipped(FILES, "folder/"),
        packages.zipped(FILES, "./"),
        packages.tarred(FILES),
        packages.tarred(FILES, "w"),
        packages.tarred({f"m/{name}": data for name, data in FILES.items()}),
    ):
        assert unpack(archive) == FILES


def _zip_entry(name: str, content: bytes = b"", mode: int = 0) -> bytes:
    target = io.BytesIO(packages.zipped(FILES))
    with zipfile.ZipFile(target, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return target.getvalue()


def _tar_entry(name: str, kind: bytes, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return packages.tarred(FILES, extra=info)


HOSTILE = {
    "climbs": (_zip_entry("../model.onnx"), "leaves its folder"),
    "climbs inside": (_zip_entry("a/../../card.toml"), "leaves its folder"),
    "backslash": (_zip_entry("..\\card.toml"), "not a file name"),
    "absolute": (_zip_entry("/etc/passwd"), "absolute"),
    "drive": (_zip_entry("C:card.toml"), "absolute"),
    "control": (_zip_entry("card\n.toml"), "not a file name"),
    "deep": (_zip_entry("a/b/card.toml"), "too deep"),
    "two folders": (_zip_entry("other/README.md"), "more than one folder"),
    "unknown": (_zip_entry("run.py"), "no part of a package"),
    "twice": (_zip_entry("card.toml", b"x"), "card.toml twice"),
    "zip link": (_zip_entry("README.md", b"/etc/passwd", stat.S_IFLNK | 0o777), "is a link"),
    "zip pipe": (_zip_entry("README.md", b"", stat.S_IFIFO | 0o600), "device or pipe"),
    "zip device": (_zip_entry("README.md", b"", stat.S_IFCHR | 0o600), "device or pipe"),
    "tar link": (_tar_entry("README.md", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
    "tar hard link": (_tar_entry("README.md", tarfile.LNKTYPE, "card.toml"), "is a link"),
    "tar device": (_tar_entry("README.md", tarfile.CHRTYPE), "device, pipe"),
    "tar block": (_tar_entry("README.md", tarfile.BLKTYPE), "device, pipe"),
    "tar pipe": (_tar_entry("README.md", tarfile.FIFOTYPE), "device, pipe"),
    "tar climbs": (_tar_entry("../README.md", tarfile.REGTYPE), "leaves its folder"),
    "tar folder climbs": (_tar_entry("../..", tarfile.DIRTYPE), "leaves its folder"),
    "many": (packages.zipped(FILES | {f"f{i}": b"" for i in range(40)}), "more than 32"),
    "zip bomb": (packages.zipped(FILES | {"model.onnx": bytes(16 << 20)}), "times its size"),
    "tar bomb": (packages.tarred(FILES | {"model.onnx": bytes(16 << 20)}), "times its size"),
    "long text": (
        packages.zipped(FILES | {"README.md": bytes(range(256)) * 20_000}),
        "README.md is larger",
    ),
    "cut off": (packages.tarred(FILES)[:-20], "damaged"),
    "cut off zip": (packages.zipped(FILES)[:-30], "damaged"),
    "trailing": (packages.tarred(FILES) + b"#!/bin/sh", "more follows"),
    "not an archive": (b"MZ" + bytes(600), "neither a zip nor a tar"),
    "empty": (b"", "neither a zip nor a tar"),
    "gzip of nothing": (b"\x1f\x8b" + zlib.compress(b"x"), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_with_its_reason(name: str) -> None:
    archive, reason = HOSTILE[name]
    with pytest.raises(ArchiveError, match=reason):
        unpack(archive)


def test_bytes_that_are_changed_anywhere_never_break_the_reader() -> None:
    for archive in (packages.zipped(FILES), packages.tarred(FILES, "w")[:4096]):
        for at in range(0, len(archive), 7):
            changed = archive[:at] + bytes([archive[at] ^ 0x55]) + archive[at + 1 :]
            try:
                unpack(changed)
            except ArchiveError:
                continue


BAD_GRAPHS: dict[str, tuple[ModelProto, str]] = {
    "outside": (graphs.outside(), "in another file"),
    "domain": (graphs.foreign("com.evil"), "domain 'com.evil'"),
    "vendor": (graphs.foreign("com.microsoft"), "domain 'com.microsoft'"),
    "function": (graphs.with_function(), "functions of its own"),
    "overstated": (graphs.overstated(), "larger than its data"),
    "negative": (graphs.overstated(-1), "negative size"),
    "endless": (graphs.hanging(), "loops without a fixed limit"),
    "endless together": (graphs.short_loop(3, 101, 101), "loops without a fixed limit"),
    "deep": (graphs.deep(), "nests graphs"),
}


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_a_hostile_graph_is_refused_before_it_is_loaded(name: str) -> None:
    model, reason = BAD_GRAPHS[name]
    with pytest.raises(GraphError, match=reason):
        judge(model.SerializeToString())


def test_graphs_of_this_server_and_short_loops_pass() -> None:
    for path in SHIPPED.glob("*/model.onnx"):
        judge(path.read_bytes())
    judge(graphs.short_loop(3).SerializeToString())
    judge(graphs.short_loop(3, 33, 101).SerializeToString())
    judge(graphs.deep(3).SerializeToString())


def test_what_is_no_graph_is_refused() -> None:
    sound = graphs.identity().SerializeToString()
    for data in (
        b"",
        b"\x08",
        b"PK\x03\x04",
        b"\xff" * 40,
        sound[:-9],
        sound + b"\x3a\x02\x0a\x00",
    ):
        with pytest.raises(GraphError):
            judge(data)
    for at in range(len(sound)):  # no byte makes it fail otherwise
        for flip in (0x01, 0x80, 0xFF):
            try:
                judge(sound[:at] + bytes([sound[at] ^ flip]) + sound[at + 1 :])
            except GraphError:
                continue


def _pem(key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private, public


def test_only_signatures_of_trusted_keys_over_these_files_count(tmp_path: Path) -> None:
    mine, other = (_pem(Ed25519PrivateKey.generate()) for _ in range(2))
    trusted = tmp_path / "keys.pem"
    trusted.write_bytes(_pem(Ed25519PrivateKey.generate())[1] + mine[1])
    keys, files = Keys.of(trusted), digests(FILES)
    assert signed(files).startswith(f"{files['card.toml']}  card.toml\n".encode())
    signer = keys.signer(files, sign(files, mine[0]))
    assert len(signer) == 16
    assert keys.signer({**files, "signature.txt": "0"}, sign(files, mine[0])) == signer
    assert Keys().signer(files, "") == ""
    for signature, reason in (
        ("", "not signed"),
        ("!!", "not base64"),
        (sign(files, other[0]), "no trusted key"),
        (sign(digests(packages.parts(version="1.0.1")), mine[0]), "not of these files"),
    ):
        with pytest.raises(SignatureError, match=reason):
            keys.signer(files, signature)


def test_a_file_of_keys_that_holds_none_is_refused(tmp_path: Path) -> None:
    public = X25519PrivateKey.generate().public_key()
    for content in (
        b"",
        b"x-----END PUBLIC KEY-----",
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ):
        (tmp_path / "keys.pem").write_bytes(content)
        with pytest.raises(ValueError, match="must hold"):
            Keys.of(tmp_path / "keys.pem")


def _received(archive: bytes, limits: Reading | None = None) -> dict[str, bytes]:
    return asyncio.run(receive(archive, limits) if limits else receive(archive))


@pytest.mark.slow
def test_the_process_gives_the_files_or_the_reason() -> None:
    assert _received(packages.zipped(FILES)) == FILES
    for archive, reason in (
        (packages.zipped(packages.parts(graph=graphs.outside())), "in another file"),
        (packages.zipped({k: v for k, v in FILES.items() if k != "card.toml"}), "card.toml is"),
        (packages.zipped(packages.parts(features_toml=b"x = [")), "features.toml"),
        (HOSTILE["climbs"][0], "leaves its folder"),
    ):
        with pytest.raises(Unprocessable, match=reason):
            _received(archive)


@pytest.mark.slow
def test_a_package_that_needs_too_much_costs_its_process_only() -> None:
    large = packages.zipped(FILES | {"model.onnx": bytes(range(256)) * 400_000})
    with pytest.raises(Unprocessable, match=r"memory|limits"):
        _received(large, Reading(memory=120, seconds=10))
