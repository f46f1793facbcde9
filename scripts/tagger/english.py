"""``python english.py OUT.jsonl``: the English set of the evaluation, as span JSON.

Other sentences than those of ``notes.json``; the names are of the same lists (Faker's).
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import names

TEXTS, TITLES = 250, ("Dr.", "Mr.", "Ms.", "Nurse")
CHOOSE = random.Random(99)
GIVEN = json.loads(Path(__file__).with_name("english.json").read_text("utf-8"))


def main() -> None:
    pools = list(names.latin())
    with Path(sys.argv[1]).open("w", encoding="utf-8") as file:
        for _ in range(TEXTS):
            text, spans = "", list[dict[str, object]]()
            for _ in range(CHOOSE.randint(1, 4)):
                given, family = CHOOSE.choice(pools)
                kind = "sentences" if CHOOSE.random() < 0.75 else "plain"
                for piece in re.split(r"(\{\w\})", CHOOSE.choice(GIVEN[kind])):
                    filled = {
                        "{F}": lambda given=given: CHOOSE.choice(given),
                        "{L}": lambda family=family: CHOOSE.choice(family),
                        "{N}": lambda g=given, f=family: f"{CHOOSE.choice(g)} {CHOOSE.choice(f)}",
                        "{C}": lambda: CHOOSE.choice(GIVEN["places"]),
                        "{T}": lambda: CHOOSE.choice(TITLES),
                    }.get(piece, lambda piece=piece: piece)()
                    if piece in ("{F}", "{L}", "{N}", "{C}"):
                        label = "GPE" if piece == "{C}" else "PERSON"
                        end = len(text) + len(filled)
                        spans.append({"start": len(text), "end": end, "type": label})
                    text += filled
                text += " "
            file.write(json.dumps({"text": text, "spans": spans}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
