"""The words of ``Patient/$access-log``: one table per language.

Short nouns, so that no sentence depends on the gender of who acts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """``title``; ``acts``: by the code of a subtype, ``kinds``: by resource type, ``purposes``: by
    v3-ActReason, ``roles``: by role. ``months``: January first. What has no word is shown as it
    is written.
    """

    title: str
    nothing: str
    more: str
    purpose: str
    refused: str
    failed: str
    nobody: str
    other: str
    record: str
    acts: dict[str, str]
    kinds: dict[str, str]
    purposes: dict[str, str]
    roles: dict[str, str]
    months: tuple[str, ...]


def _table(codes: str, words: str) -> dict[str, str]:
    """``words``: separated by |, in the order of ``codes``."""
    names, values = codes.split(), [word.strip() for word in words.split("|")]
    if len(names) != len(values):
        raise ValueError(f"{len(names)} codes, {len(values)} words: {values[:1]}")
    return dict(zip(names, values, strict=True))


_ACTS: Final = """
    read vread history-instance history-type history-system create update patch delete search-type
    search-system transaction $everything $predict $anonymize $expunge $access-log $match
    login second-factor authorize token refresh launch revoke withdraw admin command-expunge
    command-token 110127 AuthZ-Consent $consent $consent-preview $consent-templates
    $consent-history $reidentify $export $import"""
_KINDS: Final = """
    Patient Observation Condition MedicationRequest MedicationStatement MedicationAdministration
    AllergyIntolerance Immunization Procedure DiagnosticReport DocumentReference Binary Encounter
    Appointment CarePlan CareTeam Coverage Claim ExplanationOfBenefit Consent AuditEvent Provenance
    RiskAssessment ImagingStudy FamilyMemberHistory ServiceRequest QuestionnaireResponse
    Communication Composition List Goal Device Task Flag"""
_PURPOSES: Final = "TREAT ETREAT BTG PATRQT FAMRQT HPAYMT HOPERAT HRESCH PUBHLTH HSYSADMIN HQUALIMP"
_ROLES: Final = """
    patient family-doctor consultant specialist nurse researcher admin custodian ai-service"""

EN: Final = Words(
    title="Who saw your data",
    nothing="Nobody looked at your data in this time.",
    more="There is more: ask for an earlier time.",
    purpose="purpose",
    refused="refused",
    failed="not successful",
    nobody="somebody who was not signed in",
    other="another action",
    record="your record",
    acts=_table(
        _ACTS,
        """read|read an older version|read the history|read the history|read the history|added|
        changed|changed|removed|searched|searched|sent data|read the whole record|
        computed a forecast|made a copy without names|erased for good|looked at this list|
        looked for a person|signed in|signed in with a code|let an app in|gave an app access|
        gave an app access again|opened an app for your record|ended the access of an app|
        ended the access of an app|changed who may come in|erased for good|
        gave an access token|emergency access|decision by your consents|
        decided who may see the data|looked who would see the data|looked what can be decided|
        looked at the decisions|looked up whose data in a study is yours|
        took a copy to another system|added from files""",
    ),
    kinds=_table(
        _KINDS,
        """personal data|measurements and results|diagnoses|prescriptions|medicines taken|
        medicines given|allergies|vaccinations|procedures|reports|documents|files|visits|
        appointments|care plans|care teams|insurance|bills|statements of costs|consents|
        the list of accesses|origin of data|risk assessments|images|family history|referrals|
        questionnaires|messages|summaries|lists|goals|devices|tasks|warnings""",
    ),
    purposes=_table(
        _PURPOSES,
        """treatment|emergency treatment|emergency access against the rules|your own request|
        request of your family|payment|running the hospital|research|public health|
        administration of the system|quality""",
    ),
    roles=_table(
        _ROLES,
        """patient|family doctor|consultant|specialist|nurse|researcher|administrator|
        data custodian|AI service""",
    ),
    months=(
        *("January", "February", "March", "April", "May", "June", "July", "August"),
        *("September", "October", "November", "December"),
    ),
)
UK: Final = Words(
    title="Хто бачив ваші дані",
    nothing="У цей час ніхто не переглядав ваші дані.",
    more="Є ще записи: запитайте про раніший час.",
    purpose="мета",
    refused="відмовлено",
    failed="не вдалося",
    nobody="хтось без входу в систему",
    other="інша дія",
    record="ваша картка",
    acts=_table(
        _ACTS,
        """перегляд|перегляд старішої версії|перегляд історії змін|перегляд історії змін|
        перегляд історії змін|додавання|зміна|зміна|вилучення|пошук|пошук|надсилання даних|
        перегляд усієї картки|обчислення прогнозу|копія без імен|остаточне стирання|
        перегляд цього списку|пошук особи|вхід у систему|вхід з кодом|дозвіл застосунку|
        доступ для застосунку|повторний доступ для застосунку|
        відкриття застосунку для вашої картки|припинення доступу застосунку|
        припинення доступу застосунку|зміна прав доступу|остаточне стирання|
        видача ключа доступу|екстрений доступ|рішення за вашими згодами|
        рішення про доступ до даних|перевірка, хто побачив би дані|перегляд можливих рішень|
        перегляд рішень|встановлення, чиї це дані в дослідженні|
        копія до іншої системи|додавання з файлів""",
    ),
    kinds=_table(
        _KINDS,
        """особисті дані|вимірювання та результати|діагнози|рецепти|прийом ліків|введення ліків|
        алергії|щеплення|процедури|висновки|документи|файли|візити|записи на прийом|
        плани лікування|команди лікування|страхування|рахунки|витрати|згоди|список доступів|
        походження даних|оцінки ризику|знімки|сімейний анамнез|направлення|анкети|повідомлення|
        виписки|списки|цілі|пристрої|завдання|застереження""",
    ),
    purposes=_table(
        _PURPOSES,
        """лікування|невідкладна допомога|екстрений доступ усупереч правилам|ваш власний запит|
        запит вашої родини|оплата|робота закладу|дослідження|громадське здоров'я|
        адміністрування системи|якість""",
    ),
    roles=_table(
        _ROLES,
        """пацієнт|сімейний лікар|консультант|фахівець|медсестра / медбрат|дослідник|
        адміністратор|зберігач даних|служба ШІ""",
    ),
    months=(
        *("січня", "лютого", "березня", "квітня", "травня", "червня", "липня", "серпня"),
        *("вересня", "жовтня", "листопада", "грудня"),
    ),
)
RU: Final = Words(
    title="Кто видел ваши данные",
    nothing="В это время никто не просматривал ваши данные.",
    more="Есть ещё записи: запросите более раннее время.",
    purpose="цель",
    refused="отказано",
    failed="не удалось",
    nobody="кто-то без входа в систему",
    other="другое действие",
    record="ваша карта",
    acts=_table(
        _ACTS,
        """просмотр|просмотр прежней версии|просмотр истории изменений|
        просмотр истории изменений|просмотр истории изменений|добавление|изменение|изменение|
        удаление|поиск|поиск|отправка данных|просмотр всей карты|вычисление прогноза|
        копия без имён|окончательное стирание|просмотр этого списка|поиск человека|
        вход в систему|вход с кодом|разрешение приложению|доступ для приложения|
        повторный доступ для приложения|открытие приложения для вашей карты|
        прекращение доступа приложения|прекращение доступа приложения|изменение прав доступа|
        окончательное стирание|выдача ключа доступа|экстренный доступ|
        решение по вашим согласиям|
        решение о доступе к данным|проверка, кто увидел бы данные|просмотр возможных решений|
        просмотр решений|установление, чьи это данные в исследовании|
        копия в другую систему|добавление из файлов""",
    ),
    kinds=_table(
        _KINDS,
        """личные данные|измерения и результаты|диагнозы|рецепты|приём лекарств|
        введение лекарств|аллергии|прививки|процедуры|заключения|документы|файлы|визиты|
        записи на приём|планы лечения|команды лечения|страхование|счета|расходы|согласия|
        список доступов|происхождение данных|оценки риска|снимки|семейный анамнез|направления|
        анкеты|сообщения|выписки|списки|цели|устройства|задачи|предупреждения""",
    ),
    purposes=_table(
        _PURPOSES,
        """лечение|неотложная помощь|экстренный доступ вопреки правилам|ваш собственный запрос|
        запрос вашей семьи|оплата|работа учреждения|исследование|общественное здоровье|
        администрирование системы|качество""",
    ),
    roles=_table(
        _ROLES,
        """пациент|семейный врач|консультант|специалист|медсестра / медбрат|исследователь|
        администратор|хранитель данных|служба ИИ""",
    ),
    months=(
        *("января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа"),
        *("сентября", "октября", "ноября", "декабря"),
    ),
)
LANGUAGES: Final = {"en": EN, "uk": UK, "ru": RU}
