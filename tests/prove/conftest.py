"""The result table of ``make prove``: one row per proof, kept in PROVEN.md.

``PROVE`` scales how often things are done (default 1). A row replaces the one of the same
proof; rows of proofs that did not run stay. A long proof writes its row after every batch.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fhir_server.app import software_version

TABLE = Path(__file__).parents[2] / "PROVEN.md"
HEAD = """# Proven

Results of `make prove`: what was done, how often, what came out. Each row is written by the run
that it reports, when it has passed; the tests are in `tests/prove`.

| proof | what | how often | result | date | version | machine |
|---|---|---|---|---|---|---|
"""

Row = Callable[[str, str, str, str], None]
"""(proof, what, how often, result)"""


def scaled(count: int) -> int:
    """So many times under the scale of this run, but at least once."""
    return max(1, round(count * float(os.environ.get("PROVE", "1"))))


def machine() -> str:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{os.cpu_count()} cores, {round(pages / 2**30)} GB, {platform.system()}"


@pytest.fixture
def proven() -> Row:
    """Writes a row of the table."""

    def row(proof: str, what: str, often: str, result: str) -> None:
        today = datetime.now(UTC).date().isoformat()
        cells = (proof, what, often, result, today, software_version(), machine())
        line = "| " + " | ".join(cells) + " |"
        print(line)
        old = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
        rows = [text for text in old if text.startswith("| ") and not text.startswith("| proof")]
        kept = [text for text in rows if not text.startswith(f"| {proof} |")]
        TABLE.write_text(HEAD + "\n".join(sorted([*kept, line])) + "\n", encoding="utf-8")

    return row
