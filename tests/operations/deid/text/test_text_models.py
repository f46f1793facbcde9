"""The model of free text is a version of the registry: pushed, used, rolled back, retired, down."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import httpx
import pytest

from operations.deidentification import deidentification
from operations.models.registry import TEXT
from tests.serving import Server, issue, served

FOLDER = TEXT / "tagging"
PARTS = {name: (FOLDER / name).read_bytes() for name in ("card.toml", "golden.json", "model.onnx")}
NOTE = "The night was quiet, and Olena Bondarenko slept well."
RIGHT = "system/*.cruds __models"
TEXTS = "Observation/o/$anonymize?profile=limited&project=study"


def package(version: str, **changed: tuple[bytes, bytes]) -> bytes:
    """``changed``: file (without its suffix) -> what is replaced in it by what."""
    parts = dict(PARTS)
    parts["card.toml"] = parts["card.toml"].replace(b'"1.0.0"', f'"{version}"'.encode())
    for stem, (before, after) in changed.items():
        [name] = [one for one in parts if one.startswith(stem)]
        assert before in parts[name]
        parts[name] = parts[name].replace(before, after)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served("sqlite", tmp_path_factory.mktemp("tagger") / "data", open_=False) as server:
        server.headers = server.bearer(RIGHT)
        code = {"text": "note"}
        note = {"resourceType": "Observation", "id": "o", "status": "final", "code": code}
        about = {"subject": {"reference": "Patient/p"}, "valueString": NOTE}
        assert server.put("Patient/p", {"resourceType": "Patient", "id": "p"}).status_code == 201
        assert server.put("Observation/o", note | about).status_code == 201
        deidentification(server.domain.settings).keys.add("study")
        yield server


def push(server: Server, archive: bytes) -> httpx.Response:
    headers = {"content-type": "application/zip"}
    return server.send("POST", "/models", content=archive, headers=headers)


def act(server: Server, verb: str, **query: str) -> httpx.Response:
    return server.send("POST", f"/models/name-tagger/{verb}", params={"reason": "test", **query})


def cleaned(server: Server) -> str:
    answer = server.get(TEXTS)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["entry"][0]["resource"]["valueString"])


def test_what_is_shipped_is_a_version_like_others(server: Server) -> None:
    [listed] = server.send("GET", "/models/name-tagger").json()["parameter"]
    told = {part["name"]: part for part in listed["part"]}
    assert "UA-GEC" in told["card"]["valueString"]
    version = {part["name"]: part for part in told["version"]["part"]}
    assert version["status"]["valueCode"] == "champion"
    for url in ("Patient/p/$predict?model=name-tagger", "/v2/models/name-tagger"):
        assert server.get(url).status_code == 404, url
    assert "name-tagger" not in server.get("Patient/p/$predict").text


@pytest.mark.parametrize(
    ("archive", "text"),
    [
        (package("2.0.0", golden=(b"[6e-05, 1.0", b"[6e-05, 0.4")), "golden vector: word 2"),
        (package("2.0.0", golden=(b"[6e-05, 1.0", b"[1.0")), "words, not"),
        (package("2.0.0", golden=(b'"text"', b'"txt"')), "golden.json"),
        (package("2.0.0", card=(b"rows = 1", b"rows = 2")), "another form"),
        (package("2.0.0", card=(b'"name-tagger"', b'"word-tagger"')), "of every Tagging"),
        (package("2.0.0", card=(b'"Tagging"', b'"Observation"')), "of nothing else"),
        (package("2.0.0", card=(b"[tags]", b"[marks]")), "marks"),
    ],
)
def test_a_package_that_is_refused(server: Server, archive: bytes, text: str) -> None:
    refused = push(server, archive)
    assert refused.status_code == 422 and text in issue(refused)["diagnostics"], refused.text


def test_the_version_in_use_reads_texts_and_without_one_nothing_leaves(server: Server) -> None:
    assert "Bondarenko" not in cleaned(server)
    eager = package("1.1.0", card=(b"name = 0.15", b"name = 0"))
    assert push(server, eager).status_code == 200
    assert "quiet" in cleaned(server)
    assert act(server, "activate", version="1.1.0").status_code == 200
    assert "quiet" not in cleaned(server)
    device = server.get("Device/name-tagger-1.1.0").json()
    assert device["type"]["text"] == "Model of free text" and "UA-GEC" in str(device["note"])
    assert act(server, "rollback").status_code == 200
    assert "quiet" in cleaned(server)
    for version in ("1.1.0", "1.0.0"):
        assert act(server, "retire", version=version).status_code == 200
    for url in (TEXTS, TEXTS.replace("limited", "research")):
        refused = server.get(url)
        assert refused.status_code == 503 and issue(refused), refused.text
        assert "Bondarenko" not in refused.text and "entry" not in refused.text
    assert server.get("Observation/o/$anonymize").status_code == 200
    assert push(server, package("1.2.0")).status_code == 200
    assert act(server, "activate", version="1.2.0").status_code == 200
    assert "Bondarenko" not in cleaned(server)


def test_a_model_that_is_down(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its file is not what it was: its worker refuses to load it."""
    folder = tmp_path_factory.mktemp("own") / "models"
    (folder / "broken").mkdir(parents=True)
    newer = PARTS["card.toml"].replace(b'"1.0.0"', b'"3.0.0"')
    for name, content in (PARTS | {"card.toml": newer, "model.onnx": b"no graph"}).items():
        (folder / "broken" / name).write_bytes(content)
    with served("sqlite", folder.parent / "data", models=folder) as other:
        other.put("Patient/p", {"resourceType": "Patient", "id": "p"})
        body = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {
            "resourceType": "Observation", "status": "final", "code": {"text": "note"},
            "valueString": NOTE}}]}  # fmt: skip
        deidentification(other.domain.settings).keys.add("study")
        refused = other.post("$anonymize?profile=limited&project=study", body)
        assert refused.status_code == 503 and issue(refused), refused.text
        assert "Bondarenko" not in refused.text
