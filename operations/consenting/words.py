"""The words around the templates: one table per language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fhir_server.model.problem import BadRequest


@dataclass(frozen=True, slots=True)
class Words:
    """``labels``: kinds of data by the code of their label; ``parts``: of a decision; ``whys``: by
    ``Reason.why``; ``preview``: lines of a preview; ``acts``: of a history."""

    language: str
    labels: Mapping[str, str]
    parts: Mapping[str, str]
    whys: Mapping[str, str]
    preview: Mapping[str, str]
    acts: Mapping[str, str]


_LABELS: Final = "HIV PSY MH SUD ETH OPIOIDUD SDV SEX STD GDIS R N"
_PARTS: Final = "who data items time until"
_WHYS: Final = "relationship role others implicit unstated permit deny"
_PREVIEW: Final = "title none all some assumed warning"
_ACTS: Final = "given changed withdrawn"


def _table(codes: str, words: str) -> dict[str, str]:
    """``words``: separated by |, in the order of ``codes``."""
    return dict(
        zip(codes.split(), (" ".join(word.split()) for word in words.split("|")), strict=True)
    )


EN: Final = Words(
    "en",
    _table(
        _LABELS,
        """HIV|psychiatry|mental health|addiction|alcohol and other addictions|opioid dependence|
        domestic violence|sexual health|sexually transmitted diseases|genetic data|
        everything sensitive|everything else""",
    ),
    _table(_PARTS, "For|Kinds of data|Named data|Time of the data|Until"),
    _table(
        _WHYS,
        """has no care relationship with you|this role never sees it|
        it is also about somebody else|the rule of this hospital for who has decided nothing|
        none of your decisions permits it|your decision permits it|your decision denies it""",
    ),
    _table(
        _PREVIEW,
        """What this person would see|nothing|everything|{seen} of {total}|
        As if this person treated you.|
        Who treats you will not know that something is missing. Speak with your doctor before you
        hide diagnoses, medicines or allergies.""",
    ),
    _table(_ACTS, "decided|changed|withdrawn"),
)
UK: Final = Words(
    "uk",
    _table(
        _LABELS,
        """ВІЛ|психіатрія|психічне здоров'я|залежності|алкогольна та інші залежності|
        опіоїдна залежність|домашнє насильство|сексуальне здоров'я|
        інфекції, що передаються статевим шляхом|генетичні дані|усе чутливе|усе інше""",
    ),
    _table(_PARTS, "Для|Види даних|Названі дані|Період даних|До"),
    _table(
        _WHYS,
        """не має до вас стосунку як лікар чи медсестра|ця роль цього ніколи не бачить|
        це стосується також іншої людини|правило лікарні для тих, хто нічого не вирішив|
        жодне ваше рішення цього не дозволяє|ваше рішення дозволяє|ваше рішення забороняє""",
    ),
    _table(
        _PREVIEW,
        """Що бачила б ця особа|нічого|усе|{seen} з {total}|
        Ніби ця особа вас лікує.|
        Ті, хто вас лікує, не знатимуть, що чогось бракує. Порадьтеся з лікарем, перш ніж
        приховувати діагнози, ліки чи алергії.""",
    ),
    _table(_ACTS, "вирішено|змінено|відкликано"),
)
RU: Final = Words(
    "ru",
    _table(
        _LABELS,
        """ВИЧ|психиатрия|психическое здоровье|зависимости|алкогольная и другие зависимости|
        опиоидная зависимость|домашнее насилие|сексуальное здоровье|
        инфекции, передающиеся половым путём|генетические данные|всё чувствительное|
        всё остальное""",
    ),
    _table(_PARTS, "Для|Виды данных|Названные данные|Период данных|До"),
    _table(
        _WHYS,
        """не имеет к вам отношения как врач или медсестра|эта роль этого никогда не видит|
        это касается и другого человека|правило больницы для тех, кто ничего не решил|
        ни одно ваше решение этого не разрешает|ваше решение разрешает|ваше решение запрещает""",
    ),
    _table(
        _PREVIEW,
        """Что видел бы этот человек|ничего|всё|{seen} из {total}|
        Как если бы этот человек вас лечил.|
        Те, кто вас лечит, не будут знать, что чего-то недостаёт. Посоветуйтесь с врачом, прежде
        чем скрывать диагнозы, лекарства или аллергии.""",
    ),
    _table(_ACTS, "решено|изменено|отозвано"),
)
LANGUAGES: Final = {words.language: words for words in (EN, UK, RU)}


def words_of(language: str) -> Words:
    """BadRequest for a language that there is none of."""
    found = LANGUAGES.get(language)
    if found is None:
        raise BadRequest(f"language: one of {', '.join(LANGUAGES)}", code="value")
    return found
