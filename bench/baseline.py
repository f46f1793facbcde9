"""What the machine can do at best: a raw-ASGI echo and a raw SQLite insert, in the same run."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

GROUP, INDEX_ROWS, BODY = 16, 8, os.urandom(300)


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application that answers every request with its own body."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def raw_insert(folder: Path, groups: int = 200) -> tuple[int, float, float]:
    """Rows of one resource (body and index rows) in WAL/FULL commits of 16.

    Returns (resources, wall seconds, CPU seconds).
    """
    database = sqlite3.connect(folder / "raw.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE r(id INTEGER PRIMARY KEY, body BLOB)")
    database.execute("CREATE TABLE i(h INT, d INT, r INT, PRIMARY KEY(h, d, r)) WITHOUT ROWID")
    wall, cpu, number = time.perf_counter(), time.process_time(), 0
    for _ in range(groups):
        database.execute("BEGIN")
        for _ in range(GROUP):
            number += 1
            database.execute("INSERT INTO r VALUES (?, ?)", (number, BODY))
            database.executemany(
                "INSERT INTO i VALUES (?, ?, ?)",
                [(hash((row, number % 97)), number, number) for row in range(INDEX_ROWS)],
            )
        database.execute("COMMIT")
    result = number, time.perf_counter() - wall, time.process_time() - cpu
    database.close()
    return result
