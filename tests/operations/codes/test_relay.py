"""What is not known here is asked of another terminology server, and only that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.operations.codes.asking import CODE_SYSTEM, KINDS, get, put
from tests.serving import Server, served

Json = dict[str, Any]
FAR = "urn:example:far"


class Other(BaseHTTPRequestHandler):
    """Knows one code system, and notes what it was asked."""

    asked: list[tuple[str, Json]] = []
    answers: dict[str, tuple[int, Any]] = {}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.path, body))
        status, answer = type(self).answers.get(self.path, (404, {}))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def parameters(**values: Any) -> Json:
    rows = [{"name": name, "valueString": value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": rows}


@pytest.fixture
def far() -> Iterator[str]:
    Other.asked.clear()
    Other.answers = {
        "/fhir/CodeSystem/$lookup": (200, parameters(display="Far away")),
        "/fhir/ValueSet/$expand": (200, {"resourceType": "ValueSet", "status": "active"}),
        "/fhir/CodeSystem/$subsumes": (200, {"resourceType": "Patient"}),
    }
    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/fhir"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def near(far: str, tmp_path: Path) -> Iterator[Server]:
    with served("memory", tmp_path, terminology=far, outbound_loopback="yes") as server:
        put(server, CODE_SYSTEM)
        yield server


def test_what_is_not_known_here_is_asked_there(near: Server) -> None:
    found = get(near, "CodeSystem/$lookup", system=FAR, code="a", property="parent")
    assert found == parameters(display="Far away")
    place, asked = Other.asked[-1]
    assert place == "/fhir/CodeSystem/$lookup"
    assert {"name": "system", "valueUri": FAR} in asked["parameter"]
    assert {"name": "property", "valueCode": "parent"} in asked["parameter"]
    assert get(near, "ValueSet/$expand", url=FAR, count=5)["resourceType"] == "ValueSet"
    assert {"name": "count", "valueInteger": 5} in Other.asked[-1][1]["parameter"]


def test_what_is_known_here_stays_here(near: Server) -> None:
    get(near, "CodeSystem/$lookup", system=KINDS, code="heart")
    get(near, "CodeSystem/$lookup", 400, system=FAR)
    assert Other.asked == []


def test_an_answer_that_is_none_counts_for_nothing(near: Server) -> None:
    get(near, "CodeSystem/$subsumes", 404, system=FAR, codeA="a", codeB="b")
    get(near, "ConceptMap/$translate", 404, url=FAR, system=FAR, code="a")
    assert [place for place, _ in Other.asked] == [
        "/fhir/CodeSystem/$subsumes",
        "/fhir/ConceptMap/$translate",
    ]


def test_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    nobody = {"terminology": "http://127.0.0.1:9/fhir", "outbound_loopback": "yes"}
    with served("memory", tmp_path, **nobody) as server:
        answer = server.get(f"CodeSystem/$lookup?system={FAR}&code=a")
        assert answer.status_code == 503 and "terminology" in answer.text
