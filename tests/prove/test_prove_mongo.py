"""Whole suites with every server of theirs on MongoDB, whatever store a test names."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.mongodb import real
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[2]
SUITES = (
    "access",
    "audit",
    "auth",
    "conformance",
    "consent",
    "http",
    "interactions",
    "jobs",
    "operations",
    "research",
    "search",
    "security",
    "smart",
)


WHICH = "MongoDB" if real() else "SecantusDB, a stand-in for MongoDB"
PER_WORLD = 8
"""Plans for each world of ``test_differential``."""


def run(report: Path, *what: str, **environment: str) -> tuple[int, int]:
    """How many tests passed, and how many were skipped; none may fail."""
    options = ["-q", f"--junit-xml={report}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *what],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = ElementTree.parse(report).getroot().find("testsuite")
    assert found is not None
    tests, skipped = int(found.attrib["tests"]), int(found.attrib["skipped"])
    return tests - skipped, skipped


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_on_mongodb(suite: str, tmp_path: Path, proven: Row) -> None:
    chosen = ("-m", "not prove and not slow", f"tests/{suite}")
    passed, skipped = run(tmp_path / "report.xml", *chosen, VEHR_TEST_BACKENDS="mongo")
    proven(
        f"MongoDB tests/{suite}",
        f"the suite without its slow tests, every server of it on {WHICH}",
        f"{passed:,} tests",
        f"all pass; {skipped:,} skipped",
    )


def test_random_plans_on_mongodb(tmp_path: Path, proven: Row) -> None:
    worlds = scaled(100)
    chosen = ("-k", "mongo_answers", "tests/store/test_differential.py")
    passed, _ = run(tmp_path / "report.xml", *chosen, VEHR_TEST_EXAMPLES=str(worlds))
    assert passed == 1
    proven(
        "MongoDB random plans",
        "random histories and plans (sorts, pages, joins, includes, as of a point, what the "
        f"consents of each patient leave), {WHICH}, against the memory store",
        f"{worlds:,} worlds, {worlds * PER_WORLD:,} searches to their last page",
        "0 differences in matches, order, totals, cursors",
    )
