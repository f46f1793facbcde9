"""The documents are executed: each ``console`` block runs against an in-process server that
holds the demo patients, and the answer is compared. ``...`` stands for anything."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from fhir_server.app import opened, serving
from fhir_server.cli.load import run
from fhir_server.cli.token import SYSTEM
from fhir_server.config import Settings, read

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "ig/pagecontent/models.md",
    "ig/pagecontent/predict.md",
)
BASE = "http://127.0.0.1:8080"


def steps(text: str) -> Iterator[tuple[str, str]]:
    """(command, expected answer) of every console block."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = step.partition("\n")
            yield command, answer.strip()


def fits(expected: str, answer: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, answer, re.DOTALL) is not None


async def perform(client: httpx.AsyncClient, command: str, token: str) -> str:
    """A curl (or ``fhir``: curl with the token) command line."""
    words = shlex.split(command.replace("$FHIR", f"{BASE}/fhir").replace("\\$", "$"))
    headers = {"Authorization": f"Bearer {token}"} if words[0] == "fhir" else {}
    method, url, body = "GET", "", None
    arguments = iter(words[1:])
    for word in arguments:
        match word:
            case "-s":
                continue
            case "-X":
                method = next(arguments)
            case "-H":
                name, _, value = next(arguments).partition(": ")
                headers[name] = value
            case "-d":
                body = next(arguments)
            case _:
                url = word
    response = await client.request(method, url, headers=headers, content=body)
    return response.text.strip()


async def outcomes(settings: Settings, commands: list[str]) -> list[str]:
    await run(settings, sorted((ROOT / "fhir_server" / "demo").glob("*.gz")), Console(quiet=True))
    async with opened(settings, "serve") as domain, serving(domain) as application:
        token = await domain.tokens.issue(scope=f"{SYSTEM} __models", minutes=5, client="docs")
        transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return [await perform(client, command, token) for command in commands]


@pytest.mark.slow
def test_every_console_block_gives_its_answer(tmp_path: Path) -> None:
    found = [
        step for name in DOCUMENTS for step in steps((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert len(found) >= 10
    settings = replace(read({}), data=tmp_path)
    answers = asyncio.run(outcomes(settings, [command for command, _ in found]))
    for (command, expected), answer in zip(found, answers, strict=True):
        assert fits(expected, answer), f"{command}\nanswers {answer[:2000]}"


def test_the_comparison_can_fail() -> None:
    assert fits('{"a":...', '{"a":1}')
    assert not fits('{"a":...}', '{"b":1}')
    assert not fits("abc", "abcd")
