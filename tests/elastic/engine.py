"""A small Elasticsearch for tests: the part of its API that the server uses, strictly.

Every request is judged by the specification. What is written is seen by searches only after a
refresh; versions are external; words stand at places, elements a gap apart; a mapping refuses
what it does not name. Faults are switches.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import sqrt
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.elastic.specification import ACTIONS, NotSpecified, judge

Json = dict[str, Any]
MEDIA = "application/vnd.elasticsearch+json; compatible-with=8"
LINES = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
CHECKS: dict[str, Any] = {
    "keyword": lambda v: isinstance(v, str) and len(v.encode()) <= 32_766,
    "text": lambda v: isinstance(v, str),
    "long": lambda v: isinstance(v, int) and -(2**63) <= v < 2**63,
    "dense_vector": lambda v: isinstance(v, float),
}


class Refusal(Exception):
    def __init__(self, status: int, kind: str) -> None:
        super().__init__(kind)
        self.status = status


class Index:
    """One index; ``docs``: _id -> (version, document or None when it was deleted)."""

    def __init__(self, body: Json) -> None:
        self.fields: Json = body["mappings"]["properties"]
        assert body["mappings"]["dynamic"] == "strict"
        analysis = body["settings"]["analysis"]
        tokenizer = analysis["tokenizer"][analysis["analyzer"]["folded"]["tokenizer"]]
        assert tokenizer["type"] == "whitespace"
        self.longest = tokenizer["max_token_length"]
        self.docs: dict[str, tuple[int, Json | None]] = {}
        self.seen: dict[str, tuple[int, Json]] = {}
        self.merged = 0

    def refresh(self) -> None:
        self.seen = {i: (v, d) for i, (v, d) in self.docs.items() if d is not None}

    def write(self, action: str, about: Json, document: Json | None) -> Json:
        id_, version, kind = about["_id"], about["version"], about["version_type"]
        at = self.docs.get(id_)
        late = at is not None and (version < at[0] if kind == "external_gte" else version <= at[0])
        if late:
            return self._result(id_, 409, error="version_conflict_engine_exception")
        if document is not None:
            wrong = self._refused(document)
            if wrong:
                return self._result(id_, 400, error=wrong)
        there = at is not None and at[1] is not None
        self.docs[id_] = (version, deepcopy(document))
        status = (200 if there else 404) if action == "delete" else (200 if there else 201)
        return self._result(id_, status)

    def _result(self, id_: str, status: int, error: str = "") -> Json:
        return {"_id": id_, "status": status, **({"error": {"type": error}} if error else {})}

    def _refused(self, document: Json) -> str:
        for name, value in document.items():
            made = self.fields.get(name)
            if made is None:
                return "strict_dynamic_mapping_exception"
            values = value if isinstance(value, list) else [value]
            if not all(map(CHECKS[made["type"]], values)):
                return "document_parsing_exception"
            if made["type"] == "dense_vector" and len(values) != made["dims"]:
                return "document_parsing_exception"
        return ""

    # --- queries --------------------------------------------------------------------

    def holds(self, query: Json, document: Json) -> bool:
        ((name, body),) = query.items()
        if name == "bool":
            return self._bool(body, document)
        if name in ("match_none", "match_all"):
            return name == "match_all"
        ((field, said),) = body.items()
        if field not in self.fields:
            raise Refusal(400, "query_shard_exception")
        values = document.get(field)
        if self.fields[field]["type"] == "text":
            return self._text(name, said, self.tokens(field, values or []))
        some = values if isinstance(values, list) else [values]
        match name:
            case "term":
                return said["value"] in some
            case "terms":
                if len(said) > 65_536:
                    raise Refusal(400, "illegal_argument_exception")
                return not set(said).isdisjoint(some)
            case "range":
                return all(self._compared(end, some[0], value) for end, value in said.items())
        raise NotSpecified(f"{name} of a {self.fields[field]['type']}")

    def _compared(self, end: str, value: int, other: int) -> bool:
        compare = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
        return bool(compare[end](value, other))

    def _bool(self, body: Json, document: Json) -> bool:
        return (
            all(self.holds(q, document) for q in body.get("filter", ()))
            and not any(self.holds(q, document) for q in body.get("must_not", ()))
            and sum(self.holds(q, document) for q in body.get("should", ()))
            >= body.get("minimum_should_match", 0)
        )

    def tokens(self, field: str, values: list[str]) -> dict[int, str]:
        """Place -> word, as the analyzer of the field makes them."""
        found, place = {}, 0
        for value in values:
            for word in value.split():
                for start in range(0, len(word), self.longest):
                    found[place] = word[start : start + self.longest]
                    place += 1
            place += self.fields[field]["position_increment_gap"]
        return found

    def _text(self, name: str, said: Json, tokens: dict[int, str]) -> bool:
        match name:
            case "term":
                return said["value"] in tokens.values()
            case "prefix":
                return any(token.startswith(said["value"]) for token in tokens.values())
            case "match_phrase":
                assert said["slop"] == 0
                words = said["query"].split()
                return any(
                    all(tokens.get(at + n) == word for n, word in enumerate(words)) for at in tokens
                )
        raise NotSpecified(f"{name} of a text")


class Engine:
    """``asked``: (method, path) of every request. ``named``: how many names it has given.
    ``fault``: what it does instead of its work. ``says``: what it answers instead (status, media
    type, body) where the path ends so. ``largest``: bytes of a body that it takes. ``secret``:
    what the header Authorization must be, if anything."""

    def __init__(self) -> None:
        self.indices: dict[str, Index] = {}
        self.aliases: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.named = 0
        self.wrong: list[str] = []
        self.fault = ""
        self.says: dict[str, tuple[int, str, bytes]] = {}
        self.largest = 1 << 30
        self.secret = ""
        self.lock = threading.RLock()
        self.url = ""

    @property
    def index(self) -> Index:
        """The only one."""
        (found,) = self.indices.values()
        return found

    def answer(self, method: str, target: str, headers: Any, raw: bytes) -> tuple[int, Json]:
        with self.lock:
            try:
                return 200, self._answer(method, target, headers, raw)
            except Refusal as refusal:
                kind = str(refusal)
                error = {"type": kind, "reason": "…", "root_cause": [{"type": kind}]}
                return refusal.status, {"error": error, "status": refusal.status}
            except (NotSpecified, AssertionError) as error:
                self.wrong.append(f"{method} {target}: {error!r}")
                return 400, {"error": {"type": "not_specified", "root_cause": []}, "status": 400}

    def _answer(self, method: str, target: str, headers: Any, raw: bytes) -> Json:
        path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
        if self.secret and headers.get("Authorization") != self.secret:
            raise Refusal(401, "security_exception")
        assert headers["Accept"] == MEDIA
        lines = path.endswith("/_bulk")
        if raw:
            assert headers["Content-Type"] == (LINES if lines else MEDIA), headers["Content-Type"]
        body = _bulk(raw) if lines else json.loads(raw) if raw else None
        _, pattern = judge(method, path, query, body)
        self.asked.append((method, pattern))
        if self.fault == "overloaded" or (self.fault == "read-only" and lines):
            raise Refusal(429, "es_rejected_execution_exception")
        if self.fault == "broken":
            raise Refusal(503, "master_not_discovered_exception")
        if pattern == "/":
            return {"version": {"number": "8.19.0", "build_flavor": "default"}, "tagline": "…"}
        name = path.split("/")[1]
        work = getattr(self, "_" + (pattern.split("_")[-1] if "_" in pattern else method.lower()))
        found: Json = work(name, query, body)
        return found

    def _put(self, name: str, query: Json, body: Json) -> Json:
        if name in self.indices:
            raise Refusal(400, "resource_already_exists_exception")
        self.indices[name] = Index(body)
        self.aliases.update(dict.fromkeys(body.get("aliases", ()), name))
        return {"acknowledged": True, "index": name}

    def _delete(self, name: str, query: Json, body: Json) -> Json:
        if name in self.aliases:
            raise Refusal(400, "illegal_argument_exception")
        if self.indices.pop(name, None) is None and query.get("ignore_unavailable") != "true":
            raise Refusal(404, "index_not_found_exception")
        self.aliases = {a: i for a, i in self.aliases.items() if i != name}
        return {"acknowledged": True}

    def find(self, name: str) -> Index:
        found = self.indices.get(self.aliases.get(name, name))
        if found is None:
            raise Refusal(404, "index_not_found_exception")
        return found

    def _bulk(self, name: str, query: Json, body: list[tuple[str, Json, Json | None]]) -> Json:
        if query.get("require_alias") == "true" and name not in self.aliases:
            items = [
                {a: {"status": 404, "error": {"type": "index_not_found_exception"}}}
                for a, _, _ in body
            ]
            return {"errors": True, "items": items}
        index = self.find(name)
        items = [{action: index.write(action, about, document)} for action, about, document in body]
        if query.get("refresh") == "true":
            index.refresh()
        return {"errors": any("error" in r for i in items for r in i.values()), "items": items}

    def _refresh(self, name: str, query: Json, body: Json) -> Json:
        self.find(name).refresh()
        return {"_shards": {"failed": 0}}

    def _forcemerge(self, name: str, query: Json, body: Json) -> Json:
        assert query["only_expunge_deletes"] == "true"
        index = self.find(name)
        index.docs = {i: (v, d) for i, (v, d) in index.docs.items() if d is not None}
        index.merged += 1
        return {"_shards": {"failed": 0}}

    def _search(self, name: str, query: Json, body: Json) -> Json:
        index = self.find(name)
        assert query["allow_partial_search_results"] == "false" and body["_source"] is False
        assert body["size"] <= 10_000
        rows = [(i, v, d) for i, (v, d) in index.seen.items()]
        scores: dict[str, float] = {}
        if "knn" in body:
            rows, scores = self._nearest(index, rows, body["knn"])
        else:
            rows = [row for row in rows if index.holds(body["query"], row[2])]
        keyed = [([_sort_value(s, r, scores) for s in body["sort"]], r) for r in rows]
        for n in reversed(range(len(body["sort"]))):
            ((_, how),) = body["sort"][n].items()
            keyed.sort(key=lambda pair: pair[0][n], reverse=how["order"] == "desc")
        after = body.get("search_after")
        if after is not None:
            keyed = [pair for pair in keyed if _behind(body["sort"], after, pair[0])]
        hits = [
            {"_index": name, "_id": r[0], "_version": r[1], "_score": None, "sort": key}
            for key, r in keyed[: body["size"]]
        ]
        self.named += len(hits)
        failed = 1 if self.fault == "shard" else 0
        return {
            "took": 1,
            "timed_out": self.fault == "timed-out",
            "_shards": {"total": 1, "successful": 1 - failed, "failed": failed},
            "hits": {"max_score": None, "hits": hits},
        }

    def _nearest(self, index: Index, rows: list[Any], knn: Json) -> tuple[list[Any], Any]:
        assert knn["k"] <= knn["num_candidates"] <= 10_000
        if index.fields.get(knn["field"], {}).get("type") != "dense_vector":
            raise Refusal(400, "query_shard_exception")
        some = [r for r in rows if knn["field"] in r[2] and index.holds(knn["filter"], r[2])]
        scores = {r[0]: _cosine(knn["query_vector"], r[2][knn["field"]]) for r in some}
        return sorted(some, key=lambda r: -scores[r[0]])[: knn["k"]], scores


def _bulk(raw: bytes) -> list[tuple[str, Json, Json | None]]:
    found: list[tuple[str, Json, Json | None]] = []
    assert raw.endswith(b"\n")
    lines = iter(json.loads(line) for line in raw.splitlines())
    for line in lines:
        ((action, about),) = line.items()
        assert about.keys() == ACTIONS[action]
        found.append((action, about, next(lines) if action == "index" else None))
    return found


def _sort_value(sort: Json, row: Any, scores: dict[str, float]) -> Any:
    ((field, _),) = sort.items()
    return scores[row[0]] if field == "_score" else row[2][field]


def _behind(sorts: list[Json], after: list[Any], key: list[Any]) -> bool:
    for sort, a, b in zip(sorts, after, key, strict=True):
        ((_, how),) = sort.items()
        if a != b:
            return bool(b < a if how["order"] == "desc" else b > a)
    return False


def _cosine(left: list[float], right: list[float]) -> float:
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / sqrt(sum(a * a for a in left) * sum(b * b for b in right))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def _serve(self) -> None:
        engine: Engine = self.server.engine
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if engine.fault == "silent":
            self.server.stopping.wait(20)
        if engine.fault in ("silent", "cut"):
            self.close_connection = True
            return
        status, media, content = self._answer(engine, raw)
        self.send_response(status)
        if engine.fault != "another product":
            self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if engine.fault == "trickling":
            for byte in content:
                self.wfile.write(bytes((byte,)))
                if self.server.stopping.wait(0.05):
                    return
        self.wfile.write(content)

    def _answer(self, engine: Engine, raw: bytes) -> tuple[int, str, bytes]:
        last = urlsplit(self.path).path.rpartition("/")[2]
        if last in engine.says:
            return engine.says[last]
        if len(raw) > engine.largest:
            return 413, "text/html", b"<html>413 Request Entity Too Large</html>"
        status, body = engine.answer(self.command, self.path, self.headers, raw)
        return status, MEDIA, json.dumps(body).encode()

    do_GET = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def started(tls: tuple[Path, Path] | None = None) -> Iterator[Engine]:
    """An engine on a port of the loopback; all that it was asked was specified. ``tls``: files
    of its certificate and key."""
    engine = Engine()
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.engine, server.stopping = engine, threading.Event()
    engine.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield engine
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
    assert not engine.wrong, engine.wrong


def words_in(engine: Engine) -> set[str]:
    """Everything that the engine still holds of any text."""
    text = json.dumps([list(index.docs.values()) for index in engine.indices.values()])
    return set(re.findall(r"\w+", text))
