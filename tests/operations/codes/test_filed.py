"""A file of concepts answers as the resource that it was made of, for FHIR's own code systems."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from terminology.concepts import Concepts, Json, Listed, folded
from terminology.expansion import expand
from terminology.filed import Damaged, Filed
from terminology.filing import write_file
from terminology.local import Local
from terminology.published import published, published_urls
from terminology.service import Expanding, Refused
from tests.sole import Sole

SMALL: Final = 100
"""The larger ones are asked about some of their codes."""


SHARE: Final = 25
"""Of the plain ones every so many is taken; those with properties and large ones all."""


def systems() -> list[Json]:
    found = [one for url in published_urls("CodeSystem") if (one := published("CodeSystem", url))]
    complete = [one for one in found if one.get("concept") and one["content"] == "complete"]
    rich = [one for one in complete if "property" in one or len(one["concept"]) > 150]
    return [*rich[::5], *complete[::SHARE]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Listed, Filed]]]:
    folder = tmp_path_factory.mktemp("concepts")
    found = []
    for number, resource in enumerate(systems()):
        path = folder / f"{number}.concepts"
        count = write_file(path, resource, resource["concept"])
        pair = (Listed(resource), Filed(path))
        assert count == len(pair[0].by_code) == len(pair[1].by_code)
        found.append(pair)
    assert len(found) > 40
    yield found
    for _, filed in found:
        filed.close()


def some(concepts: Concepts) -> list[str]:
    every = list(concepts.by_code)
    return every[:: max(1, len(every) // SMALL)]


def test_what_is_known_of_each_code(pairs: list[tuple[Listed, Filed]]) -> None:
    def known(concepts: Concepts, code: str) -> tuple[object, ...]:
        return (
            {k: v for k, v in concepts.by_code[code].items() if k != "concept"},
            concepts.find(code),
            concepts.find(code.upper()),
            concepts.inactive(code),
            concepts.abstract(code),
            concepts.display(code),
            concepts.words(code),
        )

    for listed, filed in pairs:
        assert list(listed.by_code) == list(filed.by_code), listed.url
        for code in some(listed):
            assert known(listed, code) == known(filed, code), (listed.url, code)
        assert filed.find("not a code") is None and "not a code" not in filed.by_code


def test_the_hierarchy(pairs: list[tuple[Listed, Filed]]) -> None:
    """The file leaves out what refers to no code of the system."""
    linked = 0
    for listed, filed in pairs:
        known = listed.by_code.keys()
        for code in some(listed):
            for name in ("children", "parents"):
                own = [one for one in getattr(listed, name)(code) if one in known]
                assert own == list(getattr(filed, name)(code)), (listed.url, code, name)
            for name in ("below", "above"):
                own = getattr(listed, name)(code) & known
                assert own == getattr(filed, name)(code), (listed.url, code, name)
                linked += len(own) - 1
    assert linked > 300


def test_filters_by_property(pairs: list[tuple[Listed, Filed]]) -> None:
    asked = 0
    for listed, filed in pairs:
        names = {p["code"] for c in listed.by_code.values() for p in c.get("property", ())}
        for name in ("code", "concept", "display", "parent", "child", "nothing", *sorted(names)):
            assert listed.defines(name) == filed.defines(name), (listed.url, name)
            if name not in ("parent", "child"):
                assert listed.bearing(name) == filed.bearing(name), (listed.url, name)
            for code in some(listed)[:3]:
                for value in (*listed.texts(code, name), "nothing"):
                    asked += 1
                    assert listed.bearing(name, value) == filed.bearing(name, value)
        assert listed.some_inactive() == filed.some_inactive(), listed.url
    assert asked > 300


def test_words(pairs: list[tuple[Listed, Filed]]) -> None:
    for listed, filed in pairs:
        for code in some(listed)[:5]:
            beginnings = [word[:4] for word in folded(listed.display(code)).split()][:2]
            if beginnings:
                hits = list(filed.sought(beginnings))
                assert hits == list(listed.sought(beginnings)) and code in hits
                assert len(hits) == filed.hits(beginnings) == listed.hits(beginnings)


def test_pages_and_order(pairs: list[tuple[Listed, Filed]]) -> None:
    listed, filed = max(pairs, key=lambda pair: len(pair[0].by_code))
    assert listed.page(7, 5) == filed.page(7, 5) and len(filed.page(0, 10)) == 10
    few = set(listed.page(3, 9)) | {"not a code"}
    assert listed.ordered(few) == filed.ordered(few) == listed.page(3, 9)


def test_what_is_no_such_file_is_told(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"not a database")
    for path in (other, tmp_path / "missing"):
        with pytest.raises(Damaged):
            Filed(path)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "one"
    twice = [{"code": "a"}, {"code": "b", "concept": [{"code": "a"}]}]
    for concepts, why in ((twice, "twice: a"), ([], "no concept")):
        with pytest.raises(Refused, match=why):
            write_file(path, {"resourceType": "CodeSystem", "url": "u"}, concepts)
        assert list(tmp_path.iterdir()) == []


def test_an_index_of_words_finds_what_a_look_at_each_finds(
    pairs: list[tuple[Listed, Filed]],
) -> None:
    """In value sets that name codes, with displays of their own and codes that nobody knows."""

    asked = 0
    for pair in pairs[:25]:
        codes: list[Json] = [{"code": code} for code in some(pair[0])]
        codes[0]["display"] = "Zebra crossing"
        codes.append({"code": "zebra-nowhere"})
        include = [{"system": pair[0].url, "concept": codes}]
        words = folded(" ".join(pair[0].display(code) for code in some(pair[0])[:3])).split()
        for text in ("zeb", "zebra", *words[:4], " ".join(words[:2]) or "a", some(pair[0])[-1]):
            if not folded(text).strip():
                continue
            value_set = {"resourceType": "ValueSet", "compose": {"include": include}}
            found = [
                asyncio.run(
                    expand(
                        Local(Sole(one.resource, one)).work,
                        value_set,
                        "set",
                        Expanding(filter=text),
                    )
                )
                for one in pair
            ]
            assert found[0] == found[1], (pair[0].url, text)
            asked += found[0]["total"] > 0
    assert asked > 50


def test_others_have_their_turn_while_many_codes_are_looked_at() -> None:
    concepts = [{"code": f"c{n}", "display": f"word {n}"} for n in range(2_000)]
    system = {"resourceType": "CodeSystem", "url": "http://example.org/many", "concept": concepts}
    include = [{"system": system["url"], "concept": [{"code": c["code"]} for c in concepts]}]
    value_set = {"resourceType": "ValueSet", "compose": {"include": include}}
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> None:
        beside = asyncio.create_task(other())
        work = Local(Sole(system, Listed(system))).work
        found = await expand(work, value_set, "set", Expanding(filter="word"))
        assert found["total"] == len(found["contains"]) == 2_000
        beside.cancel()

    asyncio.run(both())
    assert turns > 20
