"""Clients of other people against a running server, through the real pages (checks 1.11).

They need Node with the packages of ``real/package.json`` and Chromium, or a Python environment
with ``fhirclient`` and ``fhirpy``. In CI they are installed; elsewhere these tests are skipped
unless they are there already (``VEHR_TEST_NODE``: a folder with node_modules;
``VEHR_TEST_PYTHON``: the Python of that environment).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.cli.test_commands import serving, vehr

pytestmark = pytest.mark.slow

REAL = Path(__file__).parent / "real"
WORD = "correct horse battery"
SCOPE = "launch/patient openid fhirUser patient/*.rs offline_access"
PYTHON_CLIENTS = ("fhirclient==4.4.0", "fhirpy==2.3.1")
Json = dict[str, Any]


def missing(what: str) -> None:
    pytest.skip(f"needs {what}")


def installed(command: list[str], folder: Path, what: str) -> None:
    """What CI installs; skipped where that cannot be had."""
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        missing(what)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts beside node_modules."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("Node")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(REAL, folder, dirs_exist_ok=True)
    there = os.environ.get("VEHR_TEST_NODE")
    if there:
        (folder / "node_modules").symlink_to(Path(there) / "node_modules")
    elif os.environ.get("CI"):
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
        installed(command, folder, "the packages of real/package.json")
    else:
        missing("VEHR_TEST_NODE")
    library = folder / "node_modules" / "fhirclient" / "build" / "fhir-client.min.js"
    shutil.copy(library, folder)
    (folder / "cb").write_bytes((folder / "app.html").read_bytes())
    return folder


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    missing("Chromium")
    return ""


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with the clients, which are no dependencies of the project."""
    there = os.environ.get("VEHR_TEST_PYTHON")
    if there:
        return there
    if not os.environ.get("CI"):
        missing("VEHR_TEST_PYTHON")
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", *PYTHON_CLIENTS]
    installed(command, folder, " and ".join(PYTHON_CLIENTS))
    return python


class _Pages(SimpleHTTPRequestHandler):
    """The app's pages; ``/cb`` is one of them."""

    def guess_type(self, path: Any) -> str:
        return "text/html" if str(path).endswith("/cb") else super().guess_type(path)

    def log_message(self, *_: object) -> None:
        return


@dataclass
class Hospital:
    """A running server with a doctor, a patient and a client ``page`` at ``app``."""

    root: str
    app: str
    data: Path

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"

    def token(self, *arguments: str) -> str:
        return vehr("token", *arguments, "--data", self.data).stdout.strip()


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    data = tmp_path_factory.mktemp("data")
    pages = tmp_path_factory.mktemp("pages")
    handler = partial(_Pages, directory=str(pages))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        app = f"http://127.0.0.1:{listener.server_port}"
        prepared(data, app)
        with serving(data) as root:
            made = Hospital(root, app, data)
            made_records(made)
            yield made
        listener.shutdown()


def prepared(data: Path, app: str) -> None:
    add = ("user", "add", "doc", "--role", "family-doctor", "--fhir-user", "Practitioner/d")
    made = subprocess.run(
        [sys.executable, "-m", "fhir_server", *add, "--password-stdin", "--data", str(data)],
        input=WORD + "\n",
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert made.returncode == 0
    relation = ("relation", "add", "--user", "doc", "--patient", "a", "--kind", "registration")
    assert vehr(*relation, "--data", data).returncode == 0
    client = ("client", "add", "page", "--public", "--redirect", f"{app}/cb", "--data", data)
    assert vehr(*client).returncode == 0


def made_records(hospital: Hospital) -> None:
    headers = {"authorization": f"Bearer {hospital.token()}"}
    subject = {"reference": "Patient/a"}
    resources: list[Json] = [
        {"resourceType": "Practitioner", "id": "d"},
        {"resourceType": "Patient", "id": "a", "name": [{"family": "Real"}]},
        *(
            {
                "resourceType": "Observation",
                "id": f"o{n}",
                "status": "final",
                "code": {"text": "x"},
                "subject": subject,
            }
            for n in range(3)
        ),
        {
            "resourceType": "Encounter",
            "id": "e",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": subject,
        },
    ]
    for resource in resources:
        url = f"{hospital.base}/{resource['resourceType']}/{resource['id']}"
        assert httpx.put(url, json=resource, headers=headers).status_code == 201


def run(command: list[str], given: Json, folder: Path) -> Json:
    done = subprocess.run(
        [*command, json.dumps(given)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: Json = json.loads(done.stdout.strip().splitlines()[-1])
    assert "error" not in found, found
    return found


def pages_of(hospital: Hospital, node: Path) -> None:
    """Serve the app's files from where the listener looks."""
    port = int(hospital.app.rpartition(":")[2])
    assert port
    target = next(p for p in node.parent.glob("pages*"))
    for name in ("app.html", "app.js", "fhir-client.min.js", "cb"):
        shutil.copy(node / name, target / name)


def browsed(hospital: Hospital, node: Path, chromium: str, query: Json) -> Json:
    pages_of(hospital, node)
    url = f"{hospital.app}/app.html?{urlencode({'iss': hospital.base, **query})}"
    given = {"chromium": chromium, "url": url, "user": "doc", "password": WORD, "patient": "a"}
    return run(["node", "browse.mjs"], given, node)


def test_npm_fhirclient_in_a_browser_standalone(
    node: Path, chromium: str, hospital: Hospital
) -> None:
    found = browsed(hospital, node, chromium, {"start": "1", "scope": SCOPE})
    assert found["patient"] == "a" and found["user"] == "Practitioner/d"
    assert found["observations"] == 3 and found["refreshed"] is True
    headers = {"authorization": f"Bearer {found['token']}"}
    patient = f"{hospital.base}/Patient/a"
    assert httpx.get(patient, headers=headers).status_code == 200
    form = {"token": found["token"], "client_id": "page"}
    assert httpx.post(f"{hospital.root}/auth/revoke", data=form).status_code == 200
    assert httpx.get(patient, headers=headers).status_code == 401


def test_npm_fhirclient_in_a_browser_from_an_ehr(
    node: Path, chromium: str, hospital: Hospital
) -> None:
    headers = {"authorization": f"Bearer {hospital.token('--user', 'doc')}"}
    asked = {"client_id": "page", "patient": "a", "encounter": "e"}
    answer = httpx.post(f"{hospital.root}/auth/launch", json=asked, headers=headers)
    scope = "launch openid fhirUser patient/*.rs online_access"
    query = {"launch": answer.json()["launch"], "scope": scope}
    found = browsed(hospital, node, chromium, query)
    assert found["patient"] == "a" and found["encounter"] == "e" and found["refreshed"]


def test_fhir_kit_client(node: Path, hospital: Hospital) -> None:
    given = {"base": hospital.base, "token": hospital.token()}
    found = run(["node", "kit.mjs"], given, node)
    assert found["token"] == f"{hospital.root}/auth/token"
    assert (found["read"], found["version"], found["next"]) == ("Kit", "1", 1)
    assert found["done"].startswith("201")


def test_pypi_fhirclient_and_fhirpy(other_python: str, hospital: Hospital) -> None:
    given = {
        "base": hospital.base,
        "root": hospital.root,
        "redirect": f"{hospital.app}/cb",
        "user": "doc",
        "password": WORD,
        "patient": "a",
        "token": hospital.token(),
    }
    found = run([other_python, str(REAL / "python_clients.py")], given, REAL)
    assert found["patient"] == found["again"] == "a"
    assert found["observations"] == 3 and found["refreshed"] is True
    assert found["found"] == 1 and found["left"] == 0 and found["sync"] is True


@pytest.mark.parametrize("language", ["en", "uk", "ru"])
def test_every_page_at_desktop_and_phone_width(
    node: Path, chromium: str, hospital: Hospital, tmp_path: Path, language: str
) -> None:
    """axe-core (WCAG 2 A and AA) finds nothing, nothing is wider than the screen. The pictures
    are left in ``VEHR_TEST_SHOTS`` if that names a folder."""
    if not (node / "node_modules" / "axe-core").exists():
        missing("axe-core")
    given = {
        "chromium": chromium,
        "root": hospital.root,
        "client": "page",
        "redirect": f"{hospital.app}/cb",
        "scope": f"{SCOPE} launch/encounter user/Practitioner.rs",
        "user": "doc",
        "password": WORD,
        "patient": "a",
        "language": language,
        "shots": os.environ.get("VEHR_TEST_SHOTS", str(tmp_path)),
    }
    found = run(["node", "pages.mjs"], given, node)
    assert found["wrong"] == [] and found["token"] == 200
    assert len(found["seen"]) == 19 and "consent-open" in found["seen"]
