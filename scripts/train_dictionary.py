"""Trains the compression dictionary of the stores over sample resources.

usage: python scripts/train_dictionary.py SAMPLES.ndjson[.gz]... (bundles or resources)
"""

from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

SIZE = 100_000
MOST = 12_000
TARGET = Path(__file__).parents[1] / "fhir_server" / "store" / "dictionary.zst"


def resources(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        for line in content.splitlines():
            found = msgspec.json.decode(line)
            if found["resourceType"] == "Bundle":
                yield from (entry["resource"] for entry in found["entry"])
            else:
                yield found


def stored(resource: dict[str, Any], chance: random.Random) -> bytes:
    """Near the stored form: id and meta in place, contained texts cut."""
    meta = {"versionId": "1", "lastUpdated": f"2025-0{chance.randint(1, 9)}-01T10:00:00.000Z"}
    head = {"resourceType": resource.pop("resourceType"), "id": resource.pop("id", "1")}
    meta |= resource.pop("meta", {})
    return msgspec.json.encode({**head, "meta": meta, **resource})[:4000]


def main(paths: list[Path]) -> None:
    chance = random.Random(0)
    by_type: dict[str, list[bytes]] = {}
    for resource in resources(paths):
        kept = by_type.setdefault(resource["resourceType"], [])
        if len(kept) < MOST // 10:
            kept.append(stored(resource, chance))
    samples = [body for kept in by_type.values() for body in kept]
    chance.shuffle(samples)
    trained = zstandard.train_dictionary(SIZE, samples[:MOST], dict_id=1, level=3)
    TARGET.write_bytes(zstandard.ZstdCompressor(level=19).compress(trained.as_bytes()))
    print(f"{TARGET.name}: {len(samples)} samples, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main([Path(p) for p in sys.argv[1:]])
