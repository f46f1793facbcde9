"""Bulk clients that others wrote, against a server of its own: what they fetch is what there is."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from joserfc.jwk import RSAKey

from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[2]
PATIENTS = 40


def vehr(data: Path, *words: str) -> None:
    command = [sys.executable, "-m", "fhir_server", *words, "--data", str(data)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """The FHIR base of a secured server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fhir_server", "serve", "--port", str(port)]
    process = subprocess.Popen([*command, "--data", str(data)], cwd=ROOT)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        process.terminate()
        process.wait()


def fetched(folder: Path) -> Counter[str]:
    """How many different resources of each type lie there."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.ndjson.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            resource = json.loads(line)
            found.setdefault(resource["resourceType"], set()).add(resource["id"])
    return Counter({type_: len(ids) for type_, ids in found.items()})


def test_smart_fetch(tmp_path: Path, shared: Path, proven: Row) -> None:
    """https://github.com/smart-on-fhir/smart-fetch (``pip install smart-fetch``)."""
    program = shutil.which("smart-fetch")
    if program is None:
        pytest.skip("smart-fetch is not installed")
    data, key = tmp_path / "data", RSAKey.generate_key(2048, {"kid": "k", "alg": "RS384"})
    for name, private, use in (("public.json", False, "verify"), ("private.jwks", True, "sign")):
        told = key.as_dict(private=private) | {"key_ops": [use]}
        (tmp_path / name).write_text(json.dumps({"keys": [told]}))
    with gzip.open(shared / "synthea" / "bundles-00.ndjson.gz", "rt", encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(scaled(PATIENTS)), strict=False)]
    (tmp_path / "some.ndjson").write_text("".join(lines), encoding="utf-8")
    stored: Counter[str] = Counter()
    for line in lines:
        stored.update(entry["resource"]["resourceType"] for entry in json.loads(line)["entry"])
    vehr(data, "load", str(tmp_path / "some.ndjson"))
    vehr(data, "client", "add", "bulk", "--jwks", str(tmp_path / "public.json"), "--scope",
         "system/*.rs")  # fmt: skip
    with serving(data) as base:
        asked = ["--fhir-url", base, "--smart-client-id", "bulk", "--no-default-filters"]
        asked += ["--smart-key", str(tmp_path / "private.jwks")]
        subprocess.run(
            [program, "bulk", str(tmp_path / "out"), *asked],
            check=True,
            env=os.environ | {"no_proxy": "127.0.0.1"},
        )
    made = fetched(tmp_path / "out")
    assert made and all(count == stored[type_] for type_, count in made.items())
    proven(
        "smart-fetch",
        "a bulk client that others wrote (PyPI) signs in by its key and fetches a whole server",
        f"{made['Patient']:,} patients, {made.total():,} resources of {len(made)} types",
        "as many of each type as were stored",
    )
