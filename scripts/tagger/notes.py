"""``python notes.py PACKAGES OUT.jsonl``: notes from the sentences of ``notes.json``.

Slots: ``{S_g}`` a surname in the genitive, ``{N_n}`` a given name, ``{SNP_d}`` surname, name and
patronymic, ``{SI_t}`` surname and initials, ``{C_l}`` a town; ``f`` after the case: of a woman.
English: ``{N}`` a full name, ``{F}``, ``{L}`` its parts, ``{I}`` an initial, ``{T}`` a title.
"""

from __future__ import annotations

import json
import random
import re
import sys
from functools import cache
from pathlib import Path

import names
import pymorphy3
from gold import feminine

from operations.deid.text.tagging.features import tokens

NOTES = 1500
CHOOSE = random.Random(7)
SENTENCES = json.loads(Path(__file__).with_name("notes.json").read_text("utf-8"))
CASES = {"n": "nomn", "g": "gent", "d": "datv", "a": "accs", "t": "ablt", "l": "loct"}
MORPHOLOGY = {language: pymorphy3.MorphAnalyzer(lang=language) for language in ("uk", "ru")}
TITLES = ("Dr.", "Mr.", "Mrs.", "Ms.", "Miss", "Dr", "Prof.")

Filled = tuple[str, int]
"""What fills a slot, and its label."""


@cache
def inflected(language: str, name: str, case: str, gender: str, tag: str) -> str:
    parses = MORPHOLOGY[language].parse(name)
    fitting = [p for p in parses if tag in str(p.tag)] or [p for p in parses if "NOUN" in p.tag]
    number = {"sing"} if language == "ru" else set()
    for parse in fitting:
        form = parse.inflect({CASES[case]} | number) if gender in str(parse.tag) else None
        if form is not None:
            return str(form.word).capitalize()
    return name


class Slavic:
    def __init__(self, language: str, packages: Path) -> None:
        self.language = language
        self._locale = {"uk": "uk_UA", "ru": "ru_RU"}[language]
        dictionary = packages / "natasha" / "natasha" / "data" / "dict"
        rare = names.natasha(dictionary, "last") if language == "ru" else []
        self._rare = [name for name in rare if len(name) > 3]

    def fill(self, slot: str) -> Filled:
        kind, _, how = slot.partition("_")
        case, woman = how[0], how.endswith("f") or CHOOSE.random() < 0.4
        if kind == "C":
            town = CHOOSE.choice(SENTENCES[f"{self.language} places"])
            return inflected(self.language, town, case, "", "Geox" * (self.language == "ru")), 2
        gender = "femn" if woman else "masc"
        group = "female" if woman else "male"
        given = CHOOSE.choice(names.of(self._locale, f"first_names_{group}"))
        father = CHOOSE.choice(names.of(self._locale, f"middle_names_{group}"))
        surname = inflected(self.language, self._surname(group), case, gender, "Surn")
        name = inflected(self.language, given, case, gender, "Name")
        patronymic = inflected(self.language, father, case, gender, "Patr")
        short, middle = CHOOSE.choice(given[0]), father[0]
        text = {
            "SNP": f"{surname} {name} {patronymic}",
            "SN": CHOOSE.choice([f"{surname} {name}", f"{name} {surname}"]),
            "SI": CHOOSE.choice(
                [
                    f"{surname} {short}. {middle}.",
                    f"{surname} {short}.{middle}.",
                    f"{short}. {middle}. {surname}",
                    f"{short}.{surname}",
                ]
            ),
            "S": surname,
            "N": name,
        }[kind]
        return (text.upper() if CHOOSE.random() < 0.06 else text), 1

    def _surname(self, group: str) -> str:
        if self._rare and CHOOSE.random() < 0.7:
            name = CHOOSE.choice(self._rare)
            return feminine(name) if group == "female" else name
        return CHOOSE.choice(names.of(self._locale, f"last_names_{group}"))


class English:
    def __init__(self, packages: Path) -> None:
        self._pools = list(names.latin())
        folder = packages / "names"
        self._given = [n for w in ("male", "female") for n in names.census(folder, f"{w}.first")]
        self._family = names.census(folder, "all.last")[:20_000]

    def fill(self, slot: str) -> Filled:
        match slot:
            case "T":
                return CHOOSE.choice(TITLES), 0
            case "I":
                return CHOOSE.choice("ABCDEFGHJKLM") + ".", 1
            case "C":
                return CHOOSE.choice(SENTENCES["en places"]), 2
            case "O":
                return CHOOSE.choice(SENTENCES["en organisations"]), 3
        first, last = CHOOSE.choice(self._pools)
        given = CHOOSE.choice(self._given if CHOOSE.random() < 0.5 else first)
        family = CHOOSE.choice(self._family if CHOOSE.random() < 0.55 else last)
        if CHOOSE.random() < 0.05:
            family += "-" + CHOOSE.choice(self._family)
        middle = f" {CHOOSE.choice('ABCDEFGHJKLMNPRSTW')}." if CHOOSE.random() < 0.12 else ""
        text = {"F": given, "L": family, "N": f"{given}{middle} {family}"}[slot]
        return (text.upper() if CHOOSE.random() < 0.04 else text), 1


def note(language: str, by: Slavic | English) -> tuple[str, list[int]]:
    text, spans = "", list[tuple[int, int, int]]()
    for _ in range(CHOOSE.randint(2, 6)):
        kind = language if CHOOSE.random() < 0.7 else f"{language} plain"
        for piece in re.split(r"(\{\w+\})", CHOOSE.choice(SENTENCES[kind])):
            filled, label = by.fill(piece[1:-1]) if piece.startswith("{") else (piece, 0)
            spans.append((len(text), len(text) + len(filled), label))
            text += filled
        text += CHOOSE.choice(" \n")
    found = [
        next((label for start, end, label in spans if start <= t.start < end), 0)
        if t.text[0].isalpha()
        else 0
        for t in tokens(text)
    ]
    return text, found


def main() -> None:
    packages, out = Path(sys.argv[1]), Path(sys.argv[2])
    makers = {"en": English(packages)} | {one: Slavic(one, packages) for one in ("uk", "ru")}
    with out.open("w", encoding="utf-8") as file:
        for _ in range(NOTES):
            language = CHOOSE.choice(["en", "en", "uk", "ru"])
            text, labels = note(language, makers[language])
            file.write(json.dumps({"text": text, "labels": labels}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
