"""A small disk of its own, to be filled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BLOCK = 4096


@contextmanager
def small_disk(place: Path, megabytes: int, options: str = "") -> Iterator[Path]:
    """A tmpfs mounted at ``place``; the test is skipped where nothing may be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m{options}", "tmpfs", str(place)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, name: str = "filler") -> None:
    """Takes what room there is on a disk, to the last block."""
    block = os.urandom(BLOCK)
    with (place / name).open("ab", buffering=0) as file:
        while True:
            try:
                file.write(block)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return


def free(place: Path, name: str = "filler") -> None:
    (place / name).unlink()
