"""Ids are UUIDs of version 7 (RFC 9562) and never the same, also not after a fork."""

from __future__ import annotations

import os
import uuid

from fhir_server.model.fresh import new_id


def test_ids_are_uuids_of_version_7_and_all_different() -> None:
    made = [new_id() for _ in range(1000)]
    assert len(set(made)) == len(made)
    for one in made:
        parsed = uuid.UUID(one)
        assert (str(parsed), parsed.version, parsed.variant) == (one, 7, uuid.RFC_4122)


def test_a_child_process_draws_its_own_chance() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    own = {new_id()[14:] for _ in range(200)}
    os.waitpid(child, 0)
    told = os.read(reading, 36).decode()
    os.close(reading)
    os.close(writing)
    assert len(told) == 36 and told[14:] not in own
