"""Ids are UUIDs of RFC 9562, in order of time, never twice, also in other processes."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from fhir_server.model.fresh import AHEAD, new_id


def test_ids_are_uuids_of_version_7() -> None:
    made = [uuid.UUID(new_id()) for _ in range(3 * AHEAD)]
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    moments = [one.int >> 80 for one in made]
    assert moments == sorted(moments)


def test_threads_share_none() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(2 * AHEAD)], range(8)))
    assert len({one for some in made for one in some}) == 16 * AHEAD


def test_a_forked_process_has_chances_of_its_own() -> None:
    new_id()  # so that there are some ahead
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, "\n".join(new_id() for _ in range(AHEAD)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        theirs = {one[14:] for one in told.read().split("\n")}
    ours = {new_id()[14:] for _ in range(AHEAD)}
    assert len(theirs) == AHEAD and theirs.isdisjoint(ours)
