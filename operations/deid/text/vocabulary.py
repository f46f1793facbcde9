"""Medicine's own names: diseases, signs, scores and devices that are called after people.

What the rules or the model take for a name is left where these words surround it; what the
record tells is replaced all the same.
"""

from __future__ import annotations

import re
from typing import Final

from operations.deid.text.spans import WORD, Span
from operations.deid.text.wordlists import words

_EPONYMS: Final = frozenset(words("vocabulary_eponyms"))
_FIELD: Final = re.compile(
    r"(?i)disease|syndrome|sign\b|test\b|scale|score|criteria|class(?:ification)?|stage|grade|index|palsy|"
    r"phenomenon|reflex|point\b|triangle|catheter|tube|clamp|forceps|maneuver|manoeuvre|procedure|operation|fracture|"
    r"lymphoma|sarcoma|tumou?r|tetralogy|stain|smear|solution|lactate|monitor|position|virus|anomaly|disorder|dementia|chorea|ulcer|"
    r"esophagus|contracture|tendon|cyst|nodes?\b|lesions?|coma\b|dystrophy|ataxia|"
    r"хвороб|синдром|симптом|ознак|проб[аиуі]|шкал|критері|критери|індекс|индекс|класифікац|классификац|стаді|стади|"
    r"рефлекс|точк|трикутник|треугольник|катетер|затискач|зажим|операці|операци|перелом|лімфом|лимфом|саркома|пухлин|опухол|"
    r"тетрад|пофарбуванн|окраск|розчин|раствор|монітор|монитор|положенн|положени|вірус|вирус|аномал|деменці|деменци|"
    r"хоре[яїи]|виразк|язв|контрактур|сухожил|ком[аи]\b|дистрофі|дистрофи|атаксі|атакси|болезн|признак|набряк|отек|отёк|"
    r"пучк|ніжк|ножк|аналіз|анализ|реакц|за\s|по\s|тиреоїдит|тиреоидит|зоб"
)
_ENDING: Final = re.compile(r"(?:['’]s|[аяуюеєоіїиы]|ом|ем|єм|ого|ому|ой|ій|ий|ая|ої)$")
_AROUND: Final = 24
"""Characters on either side in which a word of the field must stand."""


def speaks_of_medicine(text: str, span: Span) -> bool:
    """Is this name that of a disease or the like?"""
    if span.kind not in ("NAME", "LOCATION"):
        return False
    words = [match[0].casefold() for match in WORD.finditer(text, span.start, span.end)]
    if not words or not all(_eponym(word) for word in words):
        return False
    before = text[max(0, span.start - _AROUND) : span.start]
    after = text[span.end : span.end + _AROUND]
    return _FIELD.search(before) is not None or _FIELD.search(after) is not None


def _eponym(word: str) -> bool:
    return word in _EPONYMS or _ENDING.sub("", word) in _EPONYMS
