"""The dictionaries of frames (``store/codec.py``) that a database keeps."""

from __future__ import annotations

import sqlite3

import zstandard

from fhir_server.store.codec import Codec, Damaged, shipped


def load(connection: sqlite3.Connection) -> Codec:
    """The codec of a database with every dictionary it has."""
    rows = connection.execute("SELECT id, content FROM dictionary").fetchall()
    known = {number: bytes(content) for number, content in rows}
    # The copy of the own dictionary is for other programs: a flipped bit in it harms nobody here.
    own = zstandard.ZstdCompressionDict(shipped()).dict_id()
    if own in known:
        known[own] = shipped()
    try:
        return Codec(known)
    except zstandard.ZstdError:
        raise Damaged("a dictionary of the database is damaged: restore a backup") from None


def record(connection: sqlite3.Connection) -> None:
    """Puts the shipped dictionary into the database, if it is not there."""
    content = shipped()
    number = zstandard.ZstdCompressionDict(content).dict_id()
    connection.execute("INSERT OR IGNORE INTO dictionary VALUES (?, ?)", (number, content))
