"""Generated writes of a reader from whom something is hidden, between generated reads (L46 to L51,
L70): to what is seen, seen in part, hidden or was never there; alone, by conditions, in
transactions.

New ids are counted in both worlds alike, so that what was created can be told from what is hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server import app
from tests.consent.asking import Asked, answers, shrunk
from tests.consent.fuzzing import KEYS, Generator
from tests.consent.worlds import Json, Twin, comparable
from tests.serving import served

JSON: Final = {"accept": "application/fhir+json"}
PATCHED: Final = (("content-type", "application/json-patch+json"),)
NAMES: Final = (
    *("Observation/h1", "Observation/v2", "Condition/h2", "Condition/k", "Encounter/h4"),
    *("Encounter/e1", "DocumentReference/h3", "Patient/p1", "Patient/p2", "Observation/u1"),
)
"""What a written resource may refer to."""
ELSEWHERE: Final = (
    *("https://other.example/fhir/Observation/h1", "https://other.example/fhir/Observation/u1"),
    *("http://127.0.0.1:8080/fhir/Condition/h2", "http://127.0.0.1:8080/fhir/Condition/u1"),
    *("https://other.example/fhir/Observation/v2", "https://other.example/x/Binary/b3?a=1"),
)
"""The same by URLs of this server and of another."""
DIV: Final = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
SHARED: Final = frozenset({"Group", "List", "Task", "Provenance", "CarePlan", "Encounter"})
"""Whom or what else these are about decides too, or they hand their labels on."""
LISTS: Final = (
    "result",
    "entry",
    "section",
    "member",
    "content",
    "addresses",
    "hasMember",
    "evidence",
)


@contextmanager
def numbered(backend: str, folder: Path) -> Iterator[tuple[Twin, Twin]]:
    """The two worlds of ``worlds.twins``, whose servers count their new ids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "new_id", _counter())
        with served(backend, folder / "a", open_=False) as whole:
            patch.setattr(app, "new_id", _counter())
            with served(backend, folder / "b", open_=False) as without:
                yield Twin(whole, full=True), Twin(without, full=False)


def _counter() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"new-{next(numbers)}"


class Writer(Generator):
    """Of one seed. ``seen``: type and id -> what D is shown, asked of the world."""

    def __init__(self, seed: int, seen: Callable[[str, str], Json | None]) -> None:
        super().__init__(seed)
        self._seen = seen
        self._writes: tuple[Callable[[], Asked], ...] = (
            *[self._put] * 4,
            *[self._patch] * 4,
            self._delete,
            *[self._conditional] * 3,
            *[self._create] * 2,
            *[self._transaction] * 3,
        )

    def __call__(self) -> Asked:
        return self.rng.choice(self._writes)() if self._some(0.5) else super().__call__()

    def _target(self) -> tuple[str, str]:
        if self._some(0.15):
            return self.rng.choice(KEYS)[0], "u1"
        return self.rng.choice(KEYS)

    def _body(self, type_: str, id_: str) -> Json:
        """As it is seen, or as it is, or something of its type; with a change."""
        seen = self._seen(type_, id_) if self._some(0.6) else None
        made: Json = copy.deepcopy(seen or self._of_type(type_)) | {"id": id_}
        made.pop("meta", None)
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            self._change(made)
        return made

    def _change(self, made: Json) -> None:
        match self.rng.randrange(10):
            case 0:
                made["language"] = self._of(["en", "uk"])
            case 1:
                made["identifier"] = [{"value": self._of(["n1", "n2"])}]
            case 2:
                for name in LISTS:
                    if type(made.get(name)) is list and made[name]:
                        made[name].pop(self.rng.randrange(len(made[name])))
                        made[name] or made.pop(name)
                        return
            case 3:
                found = [*_references(made)]
                if found:
                    self.rng.choice(found)["reference"] = self._of(NAMES + ELSEWHERE)
            case 4:
                if made["resourceType"] in SHARED:
                    return
                label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode"}
                made["meta"] = {"security": [label | {"code": self._of(["TBOO", "HIV"])}]}
            case 5:
                named = {"url": "http://example.org/named", "valueUri": self._of(NAMES + ELSEWHERE)}
                made["extension"] = [named]
            case 6:
                div = DIV.format(
                    self._of(["seen", "heard", "see Condition/h2", "see Condition/u1"])
                )
                made["text"] = {"status": "additional", "div": div}
            case 7:
                made.pop("encounter", None)
            case _:
                self._rewrite(made)

    def _rewrite(self, made: Json) -> None:
        """Items of a list: said otherwise, in another order, once more."""
        names = [name for name in LISTS if type(made.get(name)) is list and made[name]]
        if not names:
            return
        items = made[name := self._of(names)]
        item = items[self.rng.randrange(len(items))]
        match self.rng.randrange(4):
            case 0:
                item["id"] = self._of(["i1", "i2"])
            case 1:
                items.reverse()
            case 2:
                items.insert(self.rng.randrange(len(items) + 1), copy.deepcopy(item))
            case _:
                said = {"evidence": {"code": [{"text": self._of(["first", "third"])}]}}
                said |= {"section": {"title": self._of(["Mixed", "Ours"])}}
                item |= said.get(name, {})

    def _matching(self) -> tuple[tuple[str, str], ...]:
        return (("If-Match", self._of(['W/"1"', 'W/"2"'])),) if self._some(0.25) else ()

    def _put(self) -> Asked:
        type_, id_ = self._target()
        body = self._body(type_, id_)
        return Asked(f"{type_}/{id_}", method="PUT", headers=self._matching(), body=body)

    def _patch(self) -> Asked:
        type_, id_ = self._target()
        steps = [self._step() for _ in range(self.rng.choice([1, 1, 2]))]
        headers = (*PATCHED, *self._matching())
        return Asked(f"{type_}/{id_}", method="PATCH", headers=headers, body=steps)

    def _step(self) -> Json:
        place = self._of([f"/{name}/{n}" for name in LISTS for n in (0, 1)])
        kind = self._of(["remove", "test", "add", "add", "copy", "language"])
        reference = {"reference": self._of(NAMES)}
        match kind:
            case "remove":
                return {
                    "op": "remove",
                    "path": self._of([place, "/text", "/encounter", "/subject"]),
                }
            case "test":
                return {"op": "test", "path": self._of(["/result/0", "/text/status"]), "value": "x"}
            case "add":
                path = self._of(["/result/-", "/hasMember/-", "/encounter", "/result/0", "/focus"])
                value: Any = [reference] if path == "/focus" else reference
                return {"op": "add", "path": path, "value": value}
            case "copy":
                return {"op": "copy", "from": place, "path": place.rpartition("/")[0] + "/-"}
        return {"op": "add", "path": "/language", "value": self._of(["en", "uk"])}

    def _delete(self) -> Asked:
        type_, id_ = self._target()
        return Asked(f"{type_}/{id_}", method="DELETE", headers=self._matching())

    def _criteria(self, type_: str) -> tuple[tuple[str, str], ...]:
        if self._some(0.3):
            return (("identifier", self._of(["n1", "n2", "n-h2"])),)
        if self._some(0.3):
            return (("_id", self._of([id_ for t, id_ in KEYS if t == type_])),)
        return (self._criterion(type_),)

    def _conditional(self) -> Asked:
        type_, id_ = self._target()
        method = self._of(["PUT", "PUT", "DELETE", "PATCH"])
        query = self._criteria(type_)
        if method == "PATCH":
            return Asked(type_, query, method, headers=PATCHED, body=[self._step()])
        body = self._body(type_, id_) if method == "PUT" else None
        if body is not None and self._some(0.7):
            del body["id"]
        return Asked(type_, query, method, body=body)

    def _create(self) -> Asked:
        type_, id_ = self._target()
        body = self._body(type_, id_)
        del body["id"]
        headers: tuple[tuple[str, str], ...] = ()
        if self._some(0.6):
            asked = Asked(type_, self._criteria(type_))
            headers = (("If-None-Exist", asked.encoded),)
        return Asked(type_, method="POST", headers=headers, body=body)

    def _transaction(self) -> Asked:
        wanted = [self._of([self._put, self._delete, self._create, self._conditional, self._read])]
        wanted += [self._put, self._create][: self.rng.choice([0, 1, 2])]
        entries = [self._entry(n, make()) for n, make in enumerate(wanted)]
        kind = self._of(["transaction", "transaction", "batch"])
        bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
        return Asked("", method="POST", body=bundle)

    def _entry(self, number: int, asked: Asked) -> Json:
        given = dict(asked.headers)
        request: Json = {"method": asked.method, "url": asked.url}
        for header, name in (("If-Match", "ifMatch"), ("If-None-Exist", "ifNoneExist")):
            if header in given:
                request[name] = given[header]
        entry: Json = {"request": request}
        if asked.method in ("PUT", "POST"):
            entry["fullUrl"] = f"urn:uuid:00000000-0000-4000-8000-00000000000{number}"
            entry["resource"] = asked.body
        return entry


def _references(node: Any) -> Iterator[Json]:
    if isinstance(node, dict):
        if isinstance(node.get("reference"), str):
            yield node
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def shown(twin: Twin) -> Callable[[str, str], Json | None]:
    """What D is shown of something by its id."""

    def seen(type_: str, id_: str) -> Json | None:
        answer = twin.server.get(f"{type_}/{id_}", headers=twin.doctor | JSON)
        found: Json | None = answer.json() if answer.status_code == 200 else None
        return found

    return seen


HIDDEN: Final = ("h1", "h2", "h3", "h4", "b3", "hp", "hs", "hm", "hx", "ha", "hf", "hr", "hg", "hb")


def untouched(twin: Twin) -> dict[str, tuple[int, Any]]:
    """The hidden things, as the hospital has them: status and version."""
    found = {}
    for type_, id_ in KEYS:
        if id_ in HIDDEN:
            answer = twin.server.get(f"{type_}/{id_}", headers=twin.system | JSON)
            body = answer.json() if answer.status_code == 200 else {}
            found[f"{type_}/{id_}"] = answer.status_code, {n: body[n] for n in body if n != "meta"}
    return found


def world(twin: Twin) -> list[Any]:
    """All that D can read, with all of its versions."""
    types = dict.fromkeys(type_ for type_, _ in KEYS)
    asked = [f"{type_}?_count=200&_sort=_id" for type_ in types]
    asked += [f"{type_}/_history?_count=200" for type_ in types]
    return [(url, comparable(twin.server.get(url, headers=twin.doctor))) for url in asked]


def differing(
    pair: tuple[Twin, Twin], often: int, seed: int
) -> tuple[list[str], dict[int, int], int]:
    """What was answered differently, the statuses, and how many writes were accepted. It ends
    with the first difference: the worlds are not the same any more."""
    generate = Writer(seed, shown(pair[1]))
    before, statuses, accepted = untouched(pair[0]), dict[int, int](), 0
    for _ in range(often):
        asked = generate()
        whole, without = (answers(twin, asked) for twin in pair)
        status = whole[0][0]
        statuses[status] = statuses.get(status, 0) + 1
        accepted += asked.method not in ("GET", "HEAD") and status < 300
        if whole != without:
            reading = asked.method in ("GET", "HEAD")
            told = shrunk(pair, asked) if reading else asked
            return [f"{told}\n  {whole}\n  {without}"], statuses, accepted
    worlds = [world(twin) for twin in pair]
    found = [f"{one}\n  {other}" for one, other in zip(*worlds, strict=True) if one != other]
    after = untouched(pair[0])
    found += [
        f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]
    ]
    return found, statuses, accepted
