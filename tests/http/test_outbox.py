"""Answers that wait for each other: recorded in one write, or none of them is answered."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.audit.chain import Chain, bound
from fhir_server.access.audit.entry import Entry, Later
from fhir_server.access.audit.log import AuditLog
from fhir_server.http.outbox import TOGETHER, Outbox, Ready
from fhir_server.model.exchange import Response
from fhir_server.model.problem import Unavailable


class Way:
    """What was sent, in order."""

    def __init__(self, *, few: bool = False) -> None:
        self.few = few
        self.sent: list[tuple[int, bytes]] = []

    def take(self, flush: Callable[[], None]) -> bool:
        return True

    def send(self, status: int, lines: bytes, body: bytes) -> None:
        assert lines.startswith(b"x-request-id: 1\r\n")
        self.sent.append((status, body))


class Trail(AuditLog):
    """Keeps what it is given, or fails."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.writes: list[list[Entry]] = []

    def write_all(self, entries: Sequence[tuple[Entry, Sequence[Later]]]) -> None:
        if self.full:
            raise Unavailable("the request cannot be recorded now")
        self.writes.append([entry for entry, _ in entries])


LINE = Entry(1, "r", "read", "GET", 200)


def answer(way: Way, told: list[int], number: int, line: Entry | None = LINE) -> Ready:
    body = b'{"number":%d}' % number
    return Ready(way, "x-request-id: 1\r\n", Response(200, body), told.append, line)


def test_those_of_one_turn_are_recorded_and_sent_together() -> None:
    trail, way, told, turns = Trail(), Way(), list[int](), list[Callable[[], None]]()
    outbox = Outbox(trail)
    for number in range(3):
        outbox.post(answer(way, told, number), turns.append)
    assert (way.sent, told, trail.writes, len(turns)) == ([], [], [], 1)
    turns[0]()
    assert [json.loads(body)["number"] for _, body in way.sent] == [0, 1, 2]
    assert (told, trail.writes) == ([200] * 3, [[LINE] * 3])
    turns[0]()
    assert len(way.sent) == 3


def test_nobody_waits_for_many() -> None:
    way, told, turns = Way(), list[int](), list[Callable[[], None]]()
    outbox = Outbox(Trail())
    for number in range(TOGETHER):
        outbox.post(answer(way, told, number), turns.append)
    assert len(way.sent) == TOGETHER


def test_of_few_each_is_answered_at_once() -> None:
    way, told = Way(few=True), list[int]()
    Outbox(Trail()).post(answer(way, told, 1), lambda flush: pytest.fail("waits"))
    assert told == [200]


def test_what_cannot_be_recorded_is_not_answered() -> None:
    way, told = Way(), list[int]()
    outbox = Outbox(Trail(full=True))
    outbox.post(answer(way, told, 1), lambda flush: None)
    outbox.post(answer(way, told, 2, None), lambda flush: None)
    outbox.flush()
    assert told == [503, 200]
    assert b"OperationOutcome" in way.sent[0][1] and b"number" not in way.sent[0][1]


@pytest.mark.parametrize("error", [True, False], ids=["refused", "short"])
def test_lines_that_are_cut_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: bool
) -> None:
    chain = Chain(tmp_path, "key", [], 1)
    chain.append(b'{"a":1}')
    before, real = (chain.n, chain.size, chain.hash), os.write

    def write(file: int, data: Any) -> int:
        """The first line and some of the second."""
        written = real(file, bytes(data)[: len(data) * 2 // 3])
        if error:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match=r"No space|cut"):
            chain.append(b'{"b":1}', b'{"c":1}')
    [path] = tmp_path.iterdir()
    assert (chain.n, chain.size, chain.hash) == before
    assert path.stat().st_size == chain.size


def test_lines_of_one_write_are_chained_as_of_several(tmp_path: Path) -> None:
    chain = Chain(tmp_path, "key", [], 1)
    before = chain.hash
    chain.append(b'{"b":1}', b'{"c":1}')
    assert chain.n == 2
    assert chain.hash == bound(bound(before, b'{"n":1,"b":1'), b'{"n":2,"c":1')
