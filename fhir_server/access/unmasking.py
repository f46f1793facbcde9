"""What a reader of a masked resource writes is put back into the whole one.

A PUT or PATCH is made from what its author could see; what was masked for them is kept from the
stored version. Where the author says something else in its place, that stands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fhir_server.access.drafts import Prepared
from fhir_server.access.engine import Engine
from fhir_server.access.labels import own_labels
from fhir_server.access.masking import MASKED, Masking
from fhir_server.access.policy import Policy
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden
from fhir_server.model.resource import Stored


async def completed(
    engine: Engine, policy: Policy, item: Prepared, known: Stored
) -> tuple[Prepared, Stored, frozenset[str]]:
    """A new version of ``known`` by somebody from whom parts may be hidden; ``known`` as its
    author sees it; and what a mask took out of that.

    Forbidden if it takes labels away, or makes the resource one about other patients.
    """
    assert item.resource is not None and item.values is not None
    whole = loads(known.body)
    said = own_labels(item.resource)
    if "security" in item.resource.get("meta", ()) and not own_labels(whole) <= said:
        raise Forbidden("not permitted: take security labels away")
    [(seen, taken)] = await Masking(engine, policy).taken((known,))
    masked = loads(seen.body)
    if set(engine.extract(masked).patients) != set(item.values.patients):
        raise Forbidden("not permitted: change whom the resource is about")
    if seen.body == known.body:
        return item, known, frozenset()
    resource = unmasked(item.resource, whole, masked)
    values = engine.extract({**resource, "id": item.draft.key.id})
    return replace(item, resource=resource, values=values), seen, taken


def unmasked(new: Json, whole: Json, seen: Json) -> Json:
    """``new`` with what ``whole`` has and ``seen``, its masked form, has not."""
    found = dict(new)
    for name, child in whole.items():
        if name in ("meta", "id"):
            continue
        if name not in seen:
            if name not in new:
                found[name] = child
            elif type(child) is list and type(new[name]) is list:
                found[name] = [*new[name], *(item for item in child if item not in new[name])]
        elif seen[name] != child:
            found[name] = _put_back(new.get(name), child, seen[name])
            if found[name] is None:
                del found[name]
    return found


def _put_back(new: Any, whole: Any, seen: Any) -> Any:
    if new == MASKED:
        return whole
    if type(whole) is dict and type(seen) is dict:
        return unmasked(new, whole, seen) if type(new) is dict else new
    if type(whole) is list and type(seen) is list:
        return _items(new if type(new) is list else [], whole, seen)
    return new


def _items(new: list[Any], whole: list[Any], seen: list[Any]) -> list[Any] | None:
    """Hidden items have as many before them as they had; those that were seen in part are completed
    where they still are as they were seen."""
    found, left = [item for item in new if item != MASKED], list(seen)
    hidden = []
    for number, item in enumerate(whole):
        if left and left[0] == item:
            left.pop(0)
        elif left and _is_part(left[0], item):
            part = left.pop(0)
            if part in found:
                place = found.index(part)
                found[place] = unmasked(part, item, part)
        else:
            hidden.append((number, item))
    for number, item in hidden:
        found.insert(number, item)
    return found or None


def _is_part(seen: Any, whole: Any) -> bool:
    """Is ``seen`` what a mask leaves of ``whole``?"""
    if type(seen) is not dict or type(whole) is not dict:
        return bool(seen == whole)
    return seen.keys() <= whole.keys() and all(
        seen[name] == whole[name] or type(seen[name]) in (dict, list) for name in seen
    )
