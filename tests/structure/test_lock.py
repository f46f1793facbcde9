"""The lock files name hashes for everything and no download address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_pin_has_hashes_and_no_address() -> None:
    for name in ("core.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        assert "://" not in text and "--index" not in text and "--find-links" not in text
        entries = re.split(r"\n(?=[a-z0-9])", text)
        pinned = [entry for entry in entries if "==" in entry]
        assert pinned and all("--hash=sha256:" in entry for entry in pinned)


def test_the_inputs_are_those_of_pyproject() -> None:
    core = (ROOT / "requirements" / "core.in").read_text(encoding="utf-8")
    dev = (ROOT / "requirements" / "dev.in").read_text(encoding="utf-8")
    assert all(line in core for line in PROJECT["dependencies"])
    assert all(line in dev for line in PROJECT["optional-dependencies"]["dev"])


def test_no_name_squats() -> None:
    """Names known to be squatted by strangers are never installed."""
    squats = ("uk-core-news", "ru-core-news", "en-core-web-trf")
    for name in ("core.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        assert not any(squat in text for squat in squats)
