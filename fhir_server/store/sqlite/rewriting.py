"""A database that is too large to be rewritten while it is in use, rewritten while it is not."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

from fhir_server.model.problem import Unavailable
from fhir_server.store.sqlite.erasing import rewrite_whole
from fhir_server.store.sqlite.opening import server_lock
from fhir_server.store.sqlite.schema import FILE, connect, schema_version


class Rewritten(NamedTuple):
    """Bytes of the database."""

    before: int
    after: int


def rewritten(folder: Path) -> Rewritten:
    """Leaves nothing of what was erased in unused parts of pages, however large it is.

    Raises Unavailable: a server runs, somebody else writes, or there is no room for a second copy.
    """
    path = folder / FILE
    if not path.is_file():
        raise Unavailable(f"{folder} holds no database")
    lock = server_lock(folder)
    try:
        before = path.stat().st_size
        # SQLite writes the copy to its temporary folder and then back through the log.
        if shutil.disk_usage(folder).free < 2 * before:
            raise Unavailable(f"to rewrite the database {2 * before:,} free bytes are needed")
        connection = connect(path)
        try:
            schema_version(connection)
            if not rewrite_whole(connection):
                raise Unavailable("somebody reads from the database: stop that, and try again")
        except sqlite3.Error as error:
            raise Unavailable(f"the database is not rewritten: {error}") from None
        finally:
            connection.close()
        return Rewritten(before, path.stat().st_size)
    finally:
        lock.release()
