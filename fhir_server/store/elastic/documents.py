"""Documents of the index, and how it reads them.

One document per current resource, named ``Type/id``, its version that of the change feed: what
arrives late or twice changes nothing. The text is not kept, only indexed; the answer is the
store's, so nothing is ever served from here.

| field | holds |
|---|---|
| `type` `name` | type; `Type/id`, the last tie-break of every order |
| `patients` | ids of the Patient compartments that the resource is in |
| `labels` | `meta.security` |
| `tokens` `references` | other coded values and references by FHIR's own parameters |
| `date` `updated` | main clinical date, lastUpdated (microseconds) |
| `narrative` `rest` | folded words: of the narrative, of all else that is written |
| `vector` | what a model makes of the text; only where there is one |

Mapping: https://www.elastic.co/guide/en/elasticsearch/reference/8.19/mapping.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from fhir_server.model.exchange import Json
from fhir_server.model.resource import Stored
from fhir_server.search import words
from fhir_server.search.values import IndexValues
from fhir_server.search.words import Words

REVISION: Final = f"1.{words.REVISION}"
"""Of what documents hold: an index that was made by another one is made anew."""
LONGEST: Final = 200
"""Letters of a word that are indexed."""
PLAIN: Final = 200
"""Bytes of a coded value up to which it is its own key."""
GAP: Final = 100
"""Places between two elements: no phrase reaches over them."""
SECURITY: Final = "_security"
_ANALYZER: Final = "folded"


def mapping(dimensions: int | None = None) -> Json:
    """Settings and mappings of an index. ``dimensions``: of the vectors, if there are any."""
    keyword: Json = {"type": "keyword", "doc_values": False}
    number: Json = {"type": "long"}
    text: Json = {
        "type": "text",
        "analyzer": _ANALYZER,
        "norms": False,
        "position_increment_gap": GAP,
    }
    properties: Json = {
        "type": {"type": "keyword"},
        "name": {"type": "keyword"},
        "patients": keyword,
        "labels": keyword,
        "tokens": keyword,
        "references": keyword,
        "date": number,
        "updated": number,
        "narrative": text,
        "rest": text,
    }
    if dimensions is not None:
        properties["vector"] = {
            "type": "dense_vector",
            "dims": dimensions,
            "index": True,
            "similarity": "cosine",
        }
    # Words come folded and between spaces; a token that is longer than LONGEST letters would
    # else be cut by the tokenizer, whose letters are those of UTF-16.
    tokenizer: Json = {"type": "whitespace", "max_token_length": 2 * LONGEST + 2}
    return {
        "settings": {
            "refresh_interval": "-1",
            "merge": {"policy": {"expunge_deletes_allowed": 0}},
            "analysis": {
                "tokenizer": {_ANALYZER: tokenizer},
                "analyzer": {_ANALYZER: {"type": "custom", "tokenizer": _ANALYZER}},
            },
        },
        "mappings": {
            "dynamic": "strict",
            "_source": {"enabled": False},
            "properties": properties,
        },
    }


def document(stored: Stored, values: IndexValues, read: Words) -> Json:
    """The document of a version, without its vector."""
    labels = [t for t in values.tokens if t.param == SECURITY]
    tokens = [t for t in values.tokens if t.param != SECURITY]
    named = [r for r in values.references if r.id]
    return {
        "type": stored.key.type,
        "name": str(stored.key),
        "patients": list(values.patients),
        "labels": _both(labels),
        "tokens": _both(tokens),
        "references": [coded(r.param, r.type, r.id) for r in named],
        "date": values.date,
        "updated": stored.updated,
        "narrative": elements(read.narrative),
        "rest": elements(read.rest),
    }


def _both(tokens: Iterable[tuple[str, str, str]]) -> list[str]:
    """Each under its system and under any."""
    keys = (key for p, s, c in tokens for key in (coded(p, s, c), coded(p, None, c)))
    return list(dict.fromkeys(keys))


def coded(param: str, scope: str | None, code: str) -> str:
    """The key of a code of a system, or of an id of a type; ``scope`` None: of any."""
    parts = (param, code) if scope is None else (param, code, scope)
    raw = "\x1f".join(parts).encode("utf-8", "replace")  # which holds no lone surrogates
    if len(raw) <= PLAIN:
        return raw.decode()
    return f"{param}\x1f#{hashlib.blake2b(raw, digest_size=32).hexdigest()}"


def elements(text: str) -> list[str]:
    """The words of each element; a very long word by its beginning."""
    found = []
    for element in text.split("\n"):
        some = element.split()
        if some:
            found.append(" ".join(word[:LONGEST] for word in some))
    return found
