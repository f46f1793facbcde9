"""The vehr command as a user runs it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.app import opened
from fhir_server.config import Settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


def vehr(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEHR_")}
    return subprocess.run(
        [sys.executable, "-m", "fhir_server", *map(str, arguments)],
        cwd=ROOT,
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[str]:
    """A server in a process of its own; gives the URL of its root."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fhir_server", "serve", "--port", str(port), *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEHR_")}
    process = subprocess.Popen(
        [*command, "--data", str(data)], cwd=ROOT, env=kept, stdout=subprocess.PIPE, text=True
    )
    root = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(root + "/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
            assert process.poll() is None
        yield root
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def counts(data: Path) -> dict[str, int]:
    async def counted() -> dict[str, int]:
        async with opened(Settings(data=data)) as domain:
            return {k: v for k, v in (await domain.store.counts()).items() if v}

    return asyncio.run(counted())


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (("serve",), {"VEHR_NOTHING": "1"}),
        (("serve",), {"VEHR_STORE": "mongodb://h/"}),
        (("backup", "copy"), {"VEHR_STORE": "memory:"}),
        (("copy", "--from", "memory:", "--to", "sqlite:x"), {}),
        (("copy", "--from", "sqlite:", "--to", "sqlite:x"), {}),
        (("copy", "--from", "sqlite:none", "--to", "sqlite:none"), {}),
        (("copy", "--from", "sqlite:a", "--to", "sqlite:b", "--to-blobs", "s3:/x"), {}),
        (("serve", "--open", "--host", "0.0.0.0"), {}),
        (("serve", "--workers", "2"), {"VEHR_STORE": "memory:"}),
        (("serve", "--host", "192.0.2.1"), {}),
        (("token", "--scope", "system/Nothing.rs"), {}),
        (("token",), {"VEHR_STORE": "memory:"}),
        (("token", "--user", "a", "--client", "b"), {}),
        (("load", "nowhere.json"), {}),
        (("load", "pyproject.toml"), {}),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str]
) -> None:
    done = vehr(*arguments, **{"VEHR_DATA": str(tmp_path / "d")} | environ)
    assert done.returncode == 2
    assert done.stderr.startswith("vehr: ") and done.stderr.count("\n") == 1, done.stderr


def test_what_cannot_be_opened_is_said_without_a_trace(tmp_path: Path) -> None:
    """A data directory that cannot be made, one that another server has, a taken port."""
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    for command in ("token", "serve"):
        done = vehr(command, "--data", below)
        assert done.returncode != 0 and "Not a directory" in done.stderr
        assert "Traceback" not in done.stderr
    with serving(tmp_path / "d") as root:
        taken = vehr("serve", "--data", tmp_path / "e", "--port", root.rpartition(":")[2])
        assert taken.returncode == 2 and taken.stderr.startswith("vehr: ")
        assert taken.stderr.count("\n") == 1 and "in use" in taken.stderr
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        second = vehr("serve", "--data", tmp_path / "d", "--port", port)
        assert second.returncode != 0 and "Traceback" not in second.stderr
        assert "another server is running on this data directory" in second.stderr


def test_token_and_serve(tmp_path: Path) -> None:
    token = vehr("token", "--scope", "system/Patient.rs", "--data", tmp_path).stdout.strip()
    assert len(token) > 40
    with serving(tmp_path) as root:
        assert httpx.get(f"{root}/fhir/Patient").status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx.get(f"{root}/fhir/Patient", headers=headers)
        assert answer.json()["link"][0]["url"].startswith(f"{root}/fhir/Patient")
        assert httpx.get(f"{root}/fhir/Slot", headers=headers).status_code == 403


def patient(id_: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": id_, **more}


def write(path: Path, *resources: Json) -> Path:
    text = "\n".join(json.dumps(resource) for resource in resources)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_load_forms_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    urn = "urn:uuid:9d0f1d5e-2f6f-4b1c-8f2e-3c1d9a7b5e10"
    transaction = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": urn,
                "resource": {"resourceType": "Patient"},
                "request": {"method": "POST", "url": "Patient"},
            },
            {
                "resource": {
                    "resourceType": "Basic",
                    "code": {"text": "x"},
                    "subject": {"reference": urn},
                },
                "request": {"method": "POST", "url": "Basic"},
            },
        ],
    }
    collection = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "http://x/Patient/c1", "resource": patient("c1")}],
    }
    write(folder / "some.ndjson.gz", patient("n1"), patient("n2"), {"resourceType": "Patient"})
    write(folder / "bundles.ndjson", transaction)
    write(folder / "deep" / "one.json", collection)
    write(folder / "deep" / "single.json.gz", patient("s1"))
    (folder / "readme.txt").write_text("no")
    (folder / "manifest.json").write_text('{"output": []}')
    data = tmp_path / "d"
    for turn in range(2):
        done = vehr("load", folder, "--data", data)
        assert done.returncode == 0, done.stdout + done.stderr
        if turn:
            assert "0 stored" in done.stdout and "7 known" in done.stdout
        assert "manifest.json: not a FHIR resource" in done.stdout
        assert counts(data) == {"Patient": 6, "Basic": 1}
    write(folder / "deep" / "single.json.gz", patient("s1", gender="male"))
    assert "1 stored" in vehr("load", folder, "--data", data).stdout


def test_load_reports_what_failed_and_why(tmp_path: Path) -> None:
    file = tmp_path / "some.ndjson"
    lines = [
        json.dumps(patient("a")),
        "{",
        json.dumps(patient("b", gender="x")),
        json.dumps({"resourceType": "Nothing", "id": "c"}),
        json.dumps(patient("d", name=[], contact=[{"telecom": []}, {"gender": "male"}])),
        json.dumps(patient("e")),
    ]
    file.write_text("\n".join(lines))
    cut = tmp_path / "cut.ndjson.gz"
    cut.write_bytes(gzip.compress(json.dumps(patient("z")).encode() * 9)[:-20])
    done = vehr("load", file, cut, "--data", tmp_path / "d")
    assert done.returncode == 1
    failed = sorted(line for line in done.stdout.splitlines() if line.startswith("failed"))
    assert [line.partition(": ")[0].rpartition("/")[2] for line in failed] == [
        "cut.ndjson.gz:1",
        "some.ndjson:2",
        "some.ndjson:3",
        "some.ndjson:4",
    ]
    assert "gender" in failed[2]
    assert "repaired Patient.name: empty" in done.stdout
    assert counts(tmp_path / "d") == {"Patient": 3}
    again = vehr("load", file, cut, "--data", tmp_path / "d")
    assert "0 stored" in again.stdout and "3 known" in again.stdout, again.stdout
    strict = vehr("load", file, "--strict", "--data", tmp_path / "s")
    assert "some.ndjson:5" in strict.stdout and counts(tmp_path / "s") == {"Patient": 2}


def test_load_mends_and_reports_but_loses_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "some.ndjson", patient("a", photo=[], extraThing={"b": 1}))
    done = vehr("load", file, "--data", tmp_path / "d")
    assert done.returncode == 0 and "repaired Patient.extraThing: unknown element" in done.stdout
    again = vehr("load", file, "--data", tmp_path / "d")
    assert "0 stored" in again.stdout and "1 known" in again.stdout


def test_load_beside_a_running_server(tmp_path: Path) -> None:
    file = write(tmp_path / "some.ndjson", *[patient(f"p{n}") for n in range(250)])
    with serving(tmp_path / "d", "--open") as root:
        done = vehr("load", file, "--data", tmp_path / "d")
        assert done.returncode == 0, done.stdout + done.stderr
        assert httpx.get(f"{root}/fhir/Patient?_summary=count").json()["total"] == 250
        token = vehr("token", "--data", tmp_path / "d")
        assert token.returncode == 0


def test_a_named_file_without_a_resource_fails(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text('{"output": []}')
    done = vehr("load", file, "--data", tmp_path / "d")
    assert done.returncode == 1 and "failed" in done.stdout
