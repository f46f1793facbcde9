"""A validation from beginning to end: passes, and between them what they had to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue

from .judging import Answers, Question
from .profiles import Profiles

MAX_ROUNDS: Final = 20
"""Passes over one resource; each may find out that it has to know more."""
MAX_QUESTIONS: Final = 2000

Answer = Callable[[Question], Awaitable[Any]]
"""The answer to a question; None if nothing is known."""


async def judged(
    profiles: Profiles,
    resource: Json,
    urls: Iterable[str],
    answer: Answer,
    shared: Mapping[Question, Any],
    *,
    large: bool = False,
    following: bool = True,
    outside: str = "warning",
) -> tuple[Issue, ...]:
    """Every issue that profiles find in a resource whose structure is sound. ``shared``: answers
    that are there already. ``large``: others get their turns meanwhile. ``following``: references
    are followed. ``outside``: how severe it is that one leads elsewhere to what does not conform.
    """
    wanted, known = tuple(urls), Answers(shared, following=following, outside=outside)
    for _ in range(MAX_ROUNDS):
        if large:
            judging = await asyncio.to_thread(profiles.judge, resource, wanted, known)
        else:
            judging = profiles.judge(resource, wanted, known)
        if not judging.pending or len(known.own) > MAX_QUESTIONS:
            return tuple(judging.issues)
        for question in sorted(judging.pending):
            known.own[question] = await answer(question)
    return tuple(judging.issues)
