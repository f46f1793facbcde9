"""What of the audit trail goes into a backup: as much as the copied database bears out.

The files go on growing while the database is copied. A line that names the row of a write which
is not in the copy, and all behind it, stay out: a restored trail is whole by ``verify``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from fhir_server.access.audit.chain import SUFFIX
from fhir_server.access.audit.heads import KIND as HEADS
from fhir_server.access.audit.heads import names
from fhir_server.access.audit.log import FOLDER
from fhir_server.access.audit.writes import KIND as ROWS
from fhir_server.access.ports import HasRow


class _Line(msgspec.Struct):
    writes: list[tuple[str, str]] = []


class Trail:
    """The trail of a data directory, as it stands when this is made: before the database is
    copied.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._there = {path.name for path in self._files()}
        self.keys = names(data)

    def _files(self) -> list[Path]:
        return sorted((self._data / FOLDER).glob("*" + SUFFIX))

    def pieces(self, has_row: HasRow) -> Iterator[tuple[str, int]]:
        """Names in the data directory, and how many bytes from the beginning. ``has_row``: is
        there such a row in the ledger of the copy?

        A chain that was begun since has other chains' ends in its first line that may lie beyond
        the copy; where the copy has its head they do not.
        """
        for path in self._files():
            if path.name in self._there or has_row(HEADS, path.name.removesuffix(SUFFIX)):
                size = _borne_out(path, has_row)
                if size:
                    yield f"{FOLDER}/{path.name}", size


def _borne_out(path: Path, has_row: HasRow) -> int:
    size, decode = 0, msgspec.json.Decoder(_Line).decode
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"}\n"):
                break
            try:
                line = decode(raw)
            except msgspec.MsgspecError:
                line = _Line()  # what was tampered with is for verify to name
            if not all(has_row(ROWS, key) for key, _ in line.writes):
                break
            size += len(raw)
    return size
