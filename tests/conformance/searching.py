"""One record on every store, asked over HTTP: the answers must be equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx

from tests.serving import BACKENDS, Server, issue, served

Json = dict[str, Any]


class Both:
    """The same requests to a server on each store."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers

    def put(self, *resources: Json) -> None:
        for server in self.servers:
            for resource in resources:
                place = f"{resource['resourceType']}/{resource['id']}"
                answer = server.put(place, resource)
                assert answer.status_code in (200, 201), answer.text

    def delete(self, place: str) -> None:
        for server in self.servers:
            assert server.delete(place).status_code in (200, 204)

    def answers(self, url: str, **options: Any) -> list[httpx.Response]:
        return [server.get(encoded(url), **options) for server in self.servers]

    def bundle(self, url: str, **options: Any) -> Json:
        """The searchset, which is the same on every store."""
        bundles = []
        for answer in self.answers(url, **options):
            assert answer.status_code == 200, (url, answer.text)
            bundles.append(answer.json())
        assert len({str(comparable(b)) for b in bundles}) == 1, (url, bundles)
        first: Json = bundles[0]
        return first

    def ids(self, url: str, mode: str = "match", **options: Any) -> list[str]:
        return ids(self.bundle(url, **options), mode)

    def found(self, url: str) -> set[str]:
        """Ids of all matches, over all pages."""
        return {id for page in self.pages(url) for id in ids(page)}

    def pages(self, url: str) -> list[Json]:
        """All pages of the first store; the others give the same ids."""
        walks = [list(walk(server, encoded(url))) for server in self.servers]
        shown = [[ids(page) for page in pages] for pages in walks]
        assert all(one == shown[0] for one in shown), (url, shown)
        return walks[0]

    def refused(self, url: str, named: str, **options: Any) -> None:
        """400 with an OperationOutcome that names what is wrong."""
        for answer in self.answers(url, **options):
            assert answer.status_code == 400, (url, answer.status_code, answer.text)
            assert named in issue(answer)["diagnostics"], (url, answer.text)


def encoded(url: str) -> str:
    """Percent-encodes what a readable query has and a URL may not have."""
    return quote(url, safe="/?&=:$|,.*-_~%+[]@!'()")


def comparable(bundle: Json) -> Json:
    """Without what the clock and the id generator decide."""
    entries = [
        (e.get("fullUrl"), e.get("search"), {**e["resource"], "meta": _steady(e["resource"])})
        for e in bundle.get("entry", ())
    ]
    return {"total": bundle.get("total"), "entry": entries}


def _steady(resource: Json) -> Json:
    meta = resource.get("meta", {})
    return {k: v for k, v in meta.items() if k not in ("lastUpdated", "versionId")}


def ids(bundle: Json, mode: str = "match") -> list[str]:
    return [e["resource"]["id"] for e in bundle.get("entry", ()) if e["search"]["mode"] == mode]


def link(bundle: Json, relation: str) -> str | None:
    return next((r["url"] for r in bundle["link"] if r["relation"] == relation), None)


def self_query(bundle: Json) -> dict[str, list[str]]:
    return parse_qs(urlsplit(link(bundle, "self") or "").query)


def walk(server: Server, url: str) -> Iterator[Json]:
    here: str | None = url
    while here is not None:
        answer = server.get(here)
        assert answer.status_code == 200, (here, answer.text)
        page = answer.json()
        yield page
        here = link(page, "next")


@contextmanager
def both(folder: Path) -> Iterator[Both]:
    with ExitStack() as stack:
        servers = []
        for name in BACKENDS:
            (folder / name).mkdir()
            servers.append(stack.enter_context(served(name, folder / name)))
        yield Both(servers)
