"""What tests of Binary share."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import httpx

from tests.serving import FHIR_JSON, Server

PDF = b"%PDF-1.7 \x00\xff\r\n"
AS_RESOURCE = {"accept": FHIR_JSON}


def upload(
    server: Server, content: bytes = PDF, media: str = "application/pdf", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.send("POST", "Binary", content=content, headers={"content-type": media, **named})


def replaced(server: Server, id_: str, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"content-type": "application/pdf", **named}
    return server.send("PUT", f"Binary/{id_}", content=content, headers=named)


def identity(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    found = re.fullmatch(r".*/Binary/([^/]+)/_history/1", answer.headers["location"])
    assert found
    return found[1]


def made(server: Server, content: bytes = PDF, **headers: str) -> str:
    return identity(upload(server, content, **headers))


def data(resource: dict[str, Any]) -> bytes:
    return base64.b64decode(resource["data"], validate=True)


def binary(content: bytes, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(content).decode()
    return {"resourceType": "Binary", "contentType": "application/pdf", "data": text, **more}


def blob_files(server: Server) -> list[Path]:
    root = server.domain.settings.data / "blobs"
    return [p for p in root.rglob("*") if p.is_file() and len(p.name) == 64]
