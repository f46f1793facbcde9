"""A server and a dictionary that live the same life (R27): whatever is done, they agree.

Hypothesis chooses what happens: create, update, patch and delete, also by conditions and in
transactions, searches, histories, requests that must be refused, and crashes. A crash is the
data directory as it is at that moment, which is what a kill leaves; a new server opens it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from tests.serving import Json, Server, served

FAMILIES = ("Doe", "Roe", "Źródło")
NUMBERS = ("1", "2", "3")
IDS = ("a", "b", "c")
BAD: tuple[Json, ...] = (
    {"resourceType": "Patient", "unheardOf": 1},
    {"resourceType": "Patient", "birthDate": "2024-02-30"},
    {"resourceType": "Patient", "name": []},
    {"resourceType": "Practitioner"},
)

patients = st.fixed_dictionaries(
    {"resourceType": st.just("Patient")},
    optional={
        "active": st.booleans(),
        "name": st.sampled_from(FAMILIES).map(lambda family: [{"family": family}]),
        "identifier": st.sampled_from(NUMBERS).map(lambda value: [{"value": value}]),
        "birthDate": st.sampled_from(("1970", "1970-02", "2001-12-31")),
    },
)


class Machine(RuleBasedStateMachine):
    """``versions``: id -> the resource of each version, None for a deletion."""

    backend: ClassVar[str] = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, list[Json | None]] = {}
        self._folders: list[Path] = []
        self._server = self._begin(None)

    # The server

    def _begin(self, data: Path | None) -> Server:
        folder = Path(tempfile.mkdtemp(prefix="vehr-machine-"))
        self._folders.append(folder)
        if data is not None:
            shutil.copytree(
                data, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock")
            )
        self._stack = ExitStack()
        return self._stack.enter_context(served(self.backend, folder))

    def teardown(self) -> None:
        self._stack.close()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    @precondition(lambda self: self.backend == "sqlite")
    @rule()
    def crash(self) -> None:
        before = self._stack
        self._server = self._begin(self._folders[-1])
        before.close()
        self._whole()

    def send(self, method: str, url: str, body: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._server.send(method, url, json=body, headers=named)
        assert answer.status_code < 500, answer.text
        return answer

    # The dictionary

    def current(self, id_: str) -> Json | None:
        return (self.versions.get(id_) or [None])[-1]

    def living(self) -> dict[str, Json]:
        return {i: v[-1] for i, v in self.versions.items() if v[-1] is not None}

    def having(self, number: str) -> list[str]:
        wanted = [{"value": number}]
        return [i for i, found in self.living().items() if found.get("identifier") == wanted]

    def become(self, id_: str, resource: Json | None) -> None:
        """A write that changes nothing, but the order of members, makes no version."""
        if self.current(id_) != resource:
            self.versions.setdefault(id_, []).append(resource)

    def etag(self, id_: str) -> str:
        return f'W/"{len(self.versions[id_])}"'

    # What happens

    @rule(resource=patients)
    def create(self, resource: Json) -> None:
        answer = self.send("POST", "Patient", resource)
        assert answer.status_code == 201 and answer.headers["etag"] == 'W/"1"'
        id_ = answer.json()["id"]
        assert id_ not in self.versions
        self.become(id_, resource)

    @rule(id_=st.sampled_from(IDS), resource=patients)
    def update(self, id_: str, resource: Json) -> None:
        known = id_ in self.versions
        answer = self.send("PUT", f"Patient/{id_}", resource | {"id": id_})
        assert answer.status_code == (200 if known else 201)
        self.become(id_, resource)
        assert answer.headers["etag"] == self.etag(id_)

    @rule(id_=st.sampled_from(IDS), resource=patients, version=st.integers(1, 6))
    def update_if_match(self, id_: str, resource: Json, version: int) -> None:
        right = id_ in self.versions and version == len(self.versions[id_])
        answer = self.send(
            "PUT", f"Patient/{id_}", resource | {"id": id_}, if_match=f'W/"{version}"'
        )
        if self.current(id_) is not None or not right:
            assert answer.status_code == (200 if right else 412), answer.text
        if answer.status_code in (200, 201):
            self.become(id_, resource)

    @rule(id_=st.sampled_from(IDS), family=st.sampled_from(FAMILIES))
    def patch(self, id_: str, family: str) -> None:
        name = [{"family": family}]
        operations = json.dumps([{"op": "add", "path": "/name", "value": name}])
        answer = self._server.send(
            "PATCH",
            f"Patient/{id_}",
            content=operations.encode(),
            headers={"content-type": "application/json-patch+json"},
        )
        found = self.current(id_)
        if found is None:
            assert answer.status_code == (410 if id_ in self.versions else 404), answer.text
        else:
            assert answer.status_code == 200
            self.become(id_, found | {"name": name})

    @rule(id_=st.sampled_from((*IDS, "never")))
    def delete(self, id_: str) -> None:
        assert self.send("DELETE", f"Patient/{id_}").status_code == 204
        if id_ in self.versions:
            self.become(id_, None)

    @rule(number=st.sampled_from(NUMBERS), resource=patients)
    def create_unless(self, number: str, resource: Json) -> None:
        found = self.having(number)
        answer = self.send("POST", "Patient", resource, if_none_exist=f"identifier={number}")
        assert answer.status_code == (412 if len(found) > 1 else 200 if found else 201)
        if not found:
            self.become(answer.json()["id"], resource)

    @rule(number=st.sampled_from(NUMBERS), resource=patients)
    def update_where(self, number: str, resource: Json) -> None:
        found = self.having(number)
        answer = self.send("PUT", f"Patient?identifier={number}", resource)
        assert answer.status_code == (412 if len(found) > 1 else 200 if found else 201)
        if len(found) < 2:
            self.become(answer.json()["id"], resource)

    @rule(number=st.sampled_from(NUMBERS))
    def delete_where(self, number: str) -> None:
        found = self.having(number)
        answer = self.send("DELETE", f"Patient?identifier={number}")
        assert answer.status_code == (412 if len(found) > 1 else 204)
        if len(found) == 1:
            self.become(found[0], None)

    @rule(
        first=patients,
        second=patients,
        gone=st.sampled_from(IDS),
        bad=st.sampled_from((None, *BAD)),
    )
    def transaction(self, first: Json, second: Json, gone: str, bad: Json | None) -> None:
        """All of it, or nothing: with a bad entry nothing."""
        put = next(id_ for id_ in IDS if id_ != gone)
        entries = [
            {"resource": first, "request": {"method": "POST", "url": "Patient"}},
            {
                "resource": second | {"id": put},
                "request": {"method": "PUT", "url": f"Patient/{put}"},
            },
            {"request": {"method": "DELETE", "url": f"Patient/{gone}"}},
        ]
        if bad is not None:
            entries.append({"resource": bad, "request": {"method": "POST", "url": "Patient"}})
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        answer = self.send("POST", "", bundle)
        assert answer.status_code == 200 if bad is None else answer.status_code in (400, 422)
        if bad is None:
            made = answer.json()["entry"][0]["response"]["location"].split("/")[1]
            self.become(made, first)
            self.become(put, second)
            if gone in self.versions:
                self.become(gone, None)

    @rule(bad=st.sampled_from(BAD), id_=st.sampled_from(IDS))
    def refused(self, bad: Json, id_: str) -> None:
        assert self.send("POST", "Patient", bad).status_code in (400, 422)
        answer = self.send("PUT", f"Patient/{id_}", bad | {"id": id_})
        assert answer.status_code in (400, 422)

    # What is seen

    @rule(family=st.sampled_from(FAMILIES), number=st.sampled_from(NUMBERS))
    def search(self, family: str, number: str) -> None:
        named = {i for i, r in self.living().items() if r.get("name") == [{"family": family}]}
        assert self._found(f"family:exact={family}") == named
        assert self._found(f"identifier={number}") == set(self.having(number))
        both = named & set(self.having(number))
        assert self._found(f"family:exact={family}&identifier={number}") == both
        born = {i for i, r in self.living().items() if "birthDate" not in r}
        assert self._found("birthdate:missing=true") == born

    def _found(self, query: str) -> set[str]:
        body = self.send("GET", f"Patient?{query}&_count=1000&_total=accurate").json()
        ids = [entry["resource"]["id"] for entry in body.get("entry", ())]
        assert len(ids) == len(set(ids)) == body["total"]
        return set(ids)

    @rule(id_=st.sampled_from(IDS), version=st.integers(1, 6))
    def vread(self, id_: str, version: int) -> None:
        known = self.versions.get(id_, [])
        answer = self.send("GET", f"Patient/{id_}/_history/{version}")
        if version > len(known):
            assert answer.status_code == 404
        elif known[version - 1] is None:
            assert answer.status_code == 410
        else:
            assert content(answer.json()) == known[version - 1]

    @rule()
    def history(self) -> None:
        body = self.send("GET", "Patient/_history?_count=1000").json()
        assert body["total"] == sum(len(known) for known in self.versions.values())
        seen: dict[str, list[Json | None]] = {}
        for entry in reversed(body.get("entry", ())):
            id_ = entry["fullUrl"].rpartition("/")[2]
            resource = content(entry["resource"]) if "resource" in entry else None
            seen.setdefault(id_, []).append(resource)
            assert entry["response"]["etag"] == f'W/"{len(seen[id_])}"'
        assert seen == self.versions

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self._found("") == set(self.living())

    def _whole(self) -> None:
        self.history()
        for id_, known in self.versions.items():
            answer = self.send("GET", f"Patient/{id_}")
            assert answer.headers["etag"] == self.etag(id_)
            if known[-1] is None:
                assert answer.status_code == 410
            else:
                assert content(answer.json()) == known[-1]


def content(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if name not in ("id", "meta")}
