"""The commands that connections to a MongoDB send, and the index that serves each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from bson import decode

from fhir_server.store.mongo.schema import INDEXES
from fhir_server.store.mongo.wire import Line, Part

_listening: ContextVar[bool] = ContextVar("listening", default=False)


@contextmanager
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Everything that this task, or one that it began, sends meanwhile; the documents behind a
    command by their part's name."""
    commands: list[Any] = []
    real = Line.send

    async def send(line: Line, command: Any, *parts: Part) -> Any:
        if _listening.get() and "hello" not in command:
            behind = {part.name: [decode(d) for d in part.documents] for part in parts}
            commands.append({**command, **behind})
        return await real(line, command, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(Line, "send", send)
        token = _listening.set(True)
        try:
            yield commands
        finally:
            _listening.reset(token)


def served_by(command: Any) -> str:
    """The index that a command names, with how far its fields are bound by the filter: ``=`` by
    equality, ``<`` by a range, and whether it also sorts."""
    if "pipeline" in command:
        query, sort = command["pipeline"][0]["$match"], None
    else:
        query, sort = command.get("filter", {}), command.get("sort")
    hint = command.get("hint")
    collection = next(iter(command.values()))
    if hint is None:
        return f"{collection} {','.join(query)}"
    fields = dict(INDEXES[collection].get(hint, (("_id", 1),)))
    bound = []
    parts = [query, *query.get("$and", [])]
    for field in fields:
        operands = [p[field] for p in parts if field in p]
        if field.startswith("r."):
            operands = [p["r"]["$elemMatch"].get(field[2:]) for p in parts if "r" in p]
        if not operands or operands[0] is None:
            break
        ranged = isinstance(operands[0], dict) and "$in" not in operands[0]
        bound.append(field + ("<" if ranged else "="))
        if ranged:
            break
    rest = [f for f in fields if f + "=" not in bound]
    sorts = bool(rest) and sort is not None and list(sort)[: len(rest)] == rest[: len(sort)]
    return f"{hint} {' '.join(bound)}{' sorted' if sorts else ''}"
