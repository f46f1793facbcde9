"""What is asked of both worlds, and whether they differ in their answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tests.consent.plain import Plain, sent
from tests.consent.worlds import Answer, Twin, comparable

SILENT: Final = 5
"""So often a read is asked again that a database on a busy machine has not answered."""
PAGES: Final = 4
"""So many pages of an answer are walked."""


@dataclass(frozen=True)
class Asked:
    """One request. ``query``: parameters in their order; ``form``: sent as the body of a POST."""

    path: str
    query: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    form: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None

    @property
    def encoded(self) -> str:
        return "&".join(f"{quote(n, safe=':.$_')}={quote(v, safe='')}" for n, v in self.query)

    @property
    def url(self) -> str:
        return f"{self.path}?{self.encoded}" if self.query and not self.form else self.path

    def __str__(self) -> str:
        told = f"{self.method} {self.path} {'&'.join('='.join(pair) for pair in self.query)}"
        return f"{told} {dict(self.headers)} {json.dumps(self.body) if self.body else ''}".strip()


def send(twin: Twin, asked: Asked) -> Plain:
    headers, content = {**twin.doctor, **dict(asked.headers)}, b""
    if asked.form:
        headers["content-type"] = "application/x-www-form-urlencoded"
        content = asked.encoded.encode()
    elif asked.body is not None:
        content = json.dumps(asked.body).encode()
    for _ in range(SILENT):
        answer = sent(twin.server, asked.method, asked.url, headers, content)
        if asked.method not in ("GET", "HEAD") or answer.status_code != 503:
            break
    return answer


def answers(twin: Twin, asked: Asked) -> list[Answer]:
    """What D is answered, page after page."""
    answer = send(twin, asked)
    found = [comparable(answer)]
    while len(found) < PAGES and (following := _next(answer)) is not None:
        answer = sent(twin.server, "GET", following, twin.doctor)
        found.append(comparable(answer))
    return found


def _next(answer: Plain) -> str | None:
    if answer.status_code != 200 or b'"next"' not in answer.content:
        return None
    if "json" not in answer.headers.get("content-type", ""):
        return None
    links = answer.json().get("link", ())
    return next((link["url"] for link in links if link.get("relation") == "next"), None)


def differs(pair: tuple[Twin, Twin], asked: Asked) -> bool:
    whole, without = (answers(twin, asked) for twin in pair)
    return whole != without


def shrunk(pair: tuple[Twin, Twin], asked: Asked) -> Asked:
    """The same difference, with as little as shows it."""
    smaller = True
    while smaller:
        smaller = False
        for one in _smaller(asked):
            if differs(pair, one):
                asked, smaller = one, True
                break
    return asked


def _smaller(asked: Asked) -> Iterable[Asked]:
    if asked.headers:
        yield _with(asked, headers=())
    for place in range(len(asked.query)):
        yield _with(asked, query=asked.query[:place] + asked.query[place + 1 :])
    for place, (name, value) in enumerate(asked.query):
        for one in value.split(",") if "," in value else ():
            yield _with(asked, query=(*asked.query[:place], (name, one), *asked.query[place + 1 :]))
    entries = (asked.body or {}).get("entry", ())
    for place in range(len(entries) if len(entries) > 1 else 0):
        kept = [*entries[:place], *entries[place + 1 :]]
        yield _with(asked, body={**asked.body, "entry": kept})
    if asked.method == "HEAD" or asked.form:
        yield _with(asked, method="GET", form=False, path=asked.path.removesuffix("/_search"))


def _with(asked: Asked, **changes: Any) -> Asked:
    return Asked(**{**asked.__dict__, **changes})


def first_difference(pair: tuple[Twin, Twin], asked: Iterable[Asked]) -> Asked | None:
    """The first of the requests of which the answers differ."""
    return next((one for one in asked if differs(pair, one)), None)
