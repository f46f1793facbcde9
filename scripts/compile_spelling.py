"""Compiles ``operations/matching/spelling.json``: how names are written in Latin letters.

    python scripts/compile_spelling.py FOLDER

FOLDER holds ``iuliia/*.json`` (transliteration schemas of Cyrillic) and
``ukraine_kmu_55_2010.json``. Of these only the Latin forms of consonants are kept, each with
the sound of its letter; vowels and yots fall together in ``spelling.py``.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

TARGET = Path(__file__).parents[1] / "operations" / "matching" / "spelling.json"

SOUNDS = dict(
    zip(
        "абвгґдеёєжзиіїйклмнопрстуфхцчшщъыьэюя",
        "abvhhdeeeZziiiiklmnoprstufhcCSS-i-eua",
        strict=True,
    )
) | dict(zip("қғҳһўәөұүңђјљњћџ", "khhhuaouundilnCZ", strict=True))
"""Cyrillic letter -> sound. Upper case: sounds without a Latin letter; "-": silent."""

OTHERS = {
    "w": "v", "q": "k", "x": "ks", "c": "k", "g": "h", "j": "i", "y": "i", "ph": "f", "th": "t",
    "ck": "k", "gh": "h", "tz": "c", "ce": "ce", "ci": "ci", "cy": "ci", "tch": "C", "cz": "C",
    "sch": "S", "sz": "S", "szcz": "S", "ł": "l", "ß": "s",
}  # fmt: skip
"""Spellings of other traditions, and Latin letters of more than one Cyrillic letter."""


def forms(folder: Path) -> dict[str, str]:
    """Latin form -> sound."""
    found: dict[str, str] = {}
    tables = [json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("iuliia/*.json"))]
    tables = [t for t in tables if t["name"] != "uz"]
    tables.append(json.loads((folder / "ukraine_kmu_55_2010.json").read_text("utf-8")))
    for table in tables:
        for letter, latin in table["mapping"].items():
            sound = SOUNDS.get(letter, "-")
            latin = unicodedata.normalize("NFC", latin.casefold()).replace("͡", "")
            if latin.isalpha() and sound not in "-aeiou":
                found.setdefault(latin, sound)
    return found | OTHERS | {v: v for v in "aeiou"}


def main() -> None:
    latin = dict(sorted(forms(Path(sys.argv[1])).items()))
    table = {"cyrillic": {k: v.strip("-") for k, v in SOUNDS.items()}, "latin": latin}
    TARGET.write_text(json.dumps(table, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
