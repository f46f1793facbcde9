"""Scans of several types by one command, where the same index bounds them.

A round trip costs this process more than a document does: ``$everything`` has a scan for each
type of the compartment, and all are driven by hashes in one array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.roads import Road, Way

MOST: Final = 100
"""Points of one index in a command; MongoDB merges fewer than 200 in the order of the index:
https://jira.mongodb.org/browse/DOCS-16663"""


@dataclass(frozen=True, slots=True)
class Joint:
    """``road``: the command. ``roads``: by type, what each of its rows has to pass."""

    road: Road
    roads: Mapping[str, Road]


def alone(type_: str, road: Road) -> Joint:
    return Joint(road, {type_: road})


def joined(roads: Mapping[str, Road]) -> list[Joint]:
    """The roads, those together that differ in nothing but the points of their index."""
    found: list[Joint] = []
    open_: dict[str, dict[str, Road]] = {}
    for type_, road in roads.items():
        points = _points(road.way.query)
        if road.residual or not points or len(points) > MOST:
            found.append(alone(type_, road))
            continue
        alike = repr((road.way.index, tuple(road.way.query) == ("k",), road.tests))
        some = open_.setdefault(alike, {})
        if sum(len(_points(r.way.query)) for r in some.values()) + len(points) > MOST:
            found.append(_together(some))
            some = open_[alike] = {}
        some[type_] = road
    return found + [_together(some) for some in open_.values()]


def _points(query: Document) -> list[Any]:
    """What of its index a way asks for; nothing: it is of another kind."""
    match query:
        case {"k": value} if len(query) == 1:
            pass
        case {"_id": value, "y": str()} if len(query) == 2:
            pass
        case _:
            return []
    if not isinstance(value, dict):
        return [value]
    return list(value["$in"]) if tuple(value) == ("$in",) else []


def _together(roads: Mapping[str, Road]) -> Joint:
    first = next(iter(roads.values()))
    if len(roads) == 1:
        return Joint(first, roads)
    points = [point for road in roads.values() for point in _points(road.way.query)]
    query: Document = {next(iter(first.way.query)): {"$in": points}}
    if "y" in first.way.query:
        query["y"] = {"$in": list(roads)}
    parts = tuple(part for road in roads.values() for part in road.way.parts)
    few = all(road.few for road in roads.values())
    return Joint(Road(Way(first.way.index, query, parts), first.tests, few=few), roads)
