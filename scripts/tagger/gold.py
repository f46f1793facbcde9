"""``python gold.py FACTRUEVAL PACKAGES OUT.jsonl``: labelled Russian news, also with other names.

Every third document (from the first) is left for measuring.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import names
import pymorphy3

from operations.deid.text.corpora import read
from operations.deid.text.tagging.features import Token, tokens

LABELS = {"Person": 1, "Location": 2, "LocOrg": 2, "Org": 3}
COPIES = 2
MORPHOLOGY = pymorphy3.MorphAnalyzer(lang="ru")
CHOOSE = random.Random(3)


class Swap:
    """Other names in the same gender, case and number."""

    def __init__(self, packages: Path) -> None:
        dictionary = packages / "natasha" / "natasha" / "data" / "dict"
        self._surnames = [n for n in names.natasha(dictionary, "last") if len(n) > 3]
        self._given = {
            "masc": names.of("ru_RU", "first_names_male"),
            "femn": names.of("ru_RU", "first_names_female"),
        }

    def text(self, text: str, document: Sequence[Token], labels: Sequence[int]) -> str:
        out, at = "", 0
        chosen: dict[str, str] = {}
        for token, label in zip(document, labels, strict=True):
            if label == 1 and len(token.text) > 2 and token.capital:
                name = self._name(token, chosen)
                out += text[at : token.start] + (name.upper() if token.text.isupper() else name)
                at = token.end
        return out + text[at:]

    def _name(self, token: Token, chosen: dict[str, str]) -> str:
        parses = MORPHOLOGY.parse(token.form)
        proper = [p for p in parses if "Surn" in p.tag or "Name" in p.tag]
        parse = (proper or parses)[0]
        kind, gender = ("Name" if "Name" in parse.tag else "Surn"), parse.tag.gender or "masc"
        key = token.form[:5]
        if key not in chosen:
            given = self._given.get(gender, self._given["masc"])
            chosen[key] = CHOOSE.choice(given if kind == "Name" else self._surnames)
            if kind == "Surn" and gender == "femn":
                chosen[key] = feminine(chosen[key])
        for other in MORPHOLOGY.parse(chosen[key]):
            if kind in other.tag and other.tag.gender in (gender, None):
                form = other.inflect({parse.tag.case or "nomn", "sing"})
                if form is not None:
                    return str(form.word).capitalize()
        return chosen[key]


def feminine(surname: str) -> str:
    if surname.endswith(("ов", "ев", "ин")):
        return surname + "а"
    return surname[:-2] + "ая" if surname.endswith("кий") else surname


def main() -> None:
    corpus, packages, out = map(Path, sys.argv[1:4])
    swap = Swap(packages)
    with out.open("w", encoding="utf-8") as file:
        for number, (text, gold) in enumerate(read(corpus)):
            if number % 3 == 0:
                continue
            document = tokens(text)
            labels = [
                next((LABELS[g.label] for g in gold if g.start <= t.start < g.end), 0)
                for t in document
            ]
            for copy in range(1 + COPIES):
                other = swap.text(text, document, labels) if copy else text
                if len(tokens(other)) == len(labels):
                    line = {"text": other, "labels": labels}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
