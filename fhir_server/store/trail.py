"""The audit trail in backups: files that only grow, beside the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from fhir_server.store.files import BLOCK, File, described, sync, write

FORMER: Final = "audit/former.keys"
"""In a data directory: the public keys of those from which it was restored, one a line."""

HasRow = Callable[[str, str], bool]
"""(kind, key) -> is there such a row in the ledger?"""


class Trail(Protocol):
    """The audit trail of the data. ``keys``: public keys that sign its heads."""

    keys: list[str]

    def pieces(self, has_row: HasRow) -> Iterator[tuple[str, int]]:
        """Files of the trail and how many bytes of them go with the copied database."""
        ...


def copy_piece(data: Path, folder: Path, name: str, size: int) -> File:
    """The beginning of a file that only grows."""
    target = folder / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / name).open("rb") as source, target.open("xb") as out:
        left = size
        while left and (block := source.read(min(left, BLOCK))):
            out.write(block)
            left -= len(block)
    target.chmod(0o600)
    sync(target)
    return described(folder, name)


def remember(path: Path, keys: list[str]) -> None:
    """By these keys the heads of the trail are still judged; new ones are signed by another."""
    if keys:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write(path, "".join(f"{key}\n" for key in keys).encode())
