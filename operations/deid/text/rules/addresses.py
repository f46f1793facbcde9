"""Streets, houses, post boxes and post codes; places that a word before them names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from operations.deid.text.spans import Span

_STREETS: Final = (
    "street|st|avenue|ave|av|road|rd|drive|dr|lane|ln|boulevard|blvd|court|ct|circle|cir|place|pl|"
    "terrace|ter|trail|trl|way|parkway|pkwy|highway|hwy|route|rte|square|sq|alley|aly|crescent|cres|"
    "close|row|walk|plaza|loop|pike|turnpike|manor|ridge|heights|hts|grove|gardens|gdns|meadow|"
    "meadows|crossing|xing|bridge|bend|cove|point|pt|valley|view|vista|mews|quay|expressway|freeway|"
    "mount|hill|hills|park|run|path|pass|green|glen|island|isle|junction|landing|mill|orchard|"
    "plain|plains|port|shore|shores|spring|springs|station|summit|union|village|ville|fort|ford|"
    "forge|field|fields|estates?|creek|corner|corners|common|commons|club|cliff|causeway|canyon|"
    "camp|bypass|brook|branch|bluff|bayou|beach|annex|arcade|center|lodge|lake|lakes|key|knoll|"
    "inlet|hollow|haven|harbor|gateway|garden|forest|flat|flats|ferry|falls|fall|extension|divide|"
    "dale|curve|course|crest|dam|trace|track|tunnel|underpass|viaduct|wall|walks|wells|well|"
    "mall|motorway|mountain|mountains|pine|pines|mission|neck|ranch|shoal|shoals|light|lights|rapid|"
    "rapids|rest|river|spur|stravenue|stream|skyway|radial|prairie|overpass|passage|lock|locks|loaf|"
    "cape|cliffs|intersection|highroad|highlands|throughway|trafficway|trailer|crescent|burg|bottom"
)
_UNIT: Final = r"(?:,?\s(?:apt|apartment|suite|ste|unit|room|rm|fl|floor|bldg|building|#|no)\.?\s?#?\s?[A-Z0-9-]{1,6})?"
_STATES: Final = (
    "A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|PR|RI|S[CD]|"
    "T[NX]|UT|V[TAI]|W[AVIY]|AS|FM|GU|MH|MP|PW|A[AEP]"
)
_CITY: Final = r"[A-Z][\w'’.-]{1,40}(?:\s[A-Z][\w'’.-]{1,40}){0,3}"

_ENGLISH: Final = tuple(
    re.compile(form)
    for form in (
        rf"(?<![\w.,/-])(?:#\s?)?\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})?,?\s(?:(?:[NSEW]|NE|NW|SE|SW|North|South|East|West|Old|New)\.?\s)?(?:(?:[A-Z][\w'’.-]{{0,40}}|\d{{1,4}}(?:st|nd|rd|th)|of|de|la|le|du|des|der|von|the|and)\s){{1,5}}(?i:{_STREETS})s?\b\.?(?:\s(?:[NSEW]|NE|NW|SE|SW)\b\.?)?(?i:{_UNIT})(?:(?:,\s?|\s|\n)(?:{_CITY}),?(?:\s|,\s)(?:{_STATES})(?:\s\d{{5}}(?:-\d{{4}})?)?)?",
        r"(?<![\w.,/-])\d{1,6}\s(?:[A-Z][\w'’-]{1,40}\s){1,4}(?i:apt|suite|ste|unit)\.?\s?#?\s?\w{1,6}\b",
        rf"\b(?i:{_CITY}),?\s(?:{_STATES}),?\s\d{{5}}(?:-\d{{4}})?\b",
        rf"\b(?:{_STATES}),?\s\d{{5}}(?:-\d{{4}})?\b",
        rf"(?<![\w.,/-])\d{{1,6}},?\s(?:[A-Z][\w'’.-]{{1,40}},?\s){{1,4}}{_CITY},\s(?:{_STATES})\s\d{{5}}(?:-\d{{4}})?\b",
        rf"\b(?:PSC|Unit|USNS|USS|USCGC|USNV)\s[\w ]{{1,30}},?\s(?:APO|FPO|DPO),?\s(?:{_STATES})\s\d{{5}}(?:-\d{{4}})?\b",
        r"\b(?:Flat|Studio|Apt|Unit)\s\d{1,4}[A-Za-z]?,?\s(?:\d{1,5}[A-Za-z]?\s)?(?:[A-Z][\w'’-]{1,40}\s){1,3}[A-Z][\w'’-]{1,40}\b",
        r"(?i)\b(?:p\.?\s?o\.?\s?box|post\soffice\sbox|postbox)\s?\d{1,7}\b",
        r"(?i)\b(?:zip|postal|post)\s?(?:code)?(?:\s(?:on\s\w+(?:\s\w+)?\s)?is|\sof)?[\s:#]{1,3}(?:on\sthe\schart\sis\s)?\d{4,6}(?:-\d{4})?\b",
        r"\b(?:GIR ?0AA|[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d|[A-HK-Y]\d\d|\d[A-HJKS-UW]|[A-HK-Y]\d[ABEHMNPRV-Y]) ?\d[ABD-HJLNP-UW-Z]{2})\b",
        r"\b[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] \d[ABCEGHJ-NPRSTV-Z]\d\b",
        rf"\b{_CITY}\s(?:County|Township|Parish|Borough|Village|District)\b",
    )
)  # fmt: skip
_CITY_STATE: Final = re.compile(rf"\b(?P<city>{_CITY}),\s(?!MD)(?:{_STATES})\b(?!\w)")

_UP: Final = "А-ЯІЇЄҐЁ"
_NAME: Final = rf"(?:(?:\d{{1,3}}[-\s]?(?:го|й|ї|я|ая|та|ти|річчя|летия|лет|років)?\s)?(?:ак\.|академіка|академика|ген\.|генерала|адм\.|проф\.|ім\.|им\.|[{_UP}]\.\s?[{_UP}]?\.?\s?)?\s?[{_UP}][\w'’ʼ-]{{1,40}}(?:\s[{_UP}][\w'’ʼ-]{{1,40}}){{0,3}}(?:\s\d{{1,2}}-[а-яіїє]{{1,3}})?)"
_STREET_WORD: Final = (
    r"вул(?:\.|иц[яіюе]ю?)|просп?(?:\.|ект(?:і|у|а|ом)?)|пр(?:\.|-т|-кт)|пр-?т\.?|бульв?(?:\.|ар[іуа]?)|б-р|бул\.|"
    r"пров(?:\.|улок|улку)|площ[аіу]|пл\.|шосе|майдан|парк|сквер|набережна|узвоз|спуск|дорога|алл\.|бул\.|наб(?:\.|ережн\w+)|узвіз|тупик|м-н|мкр\.?|мікрорайон\w?|"
    r"ж/?м|житловий масив|ул(?:\.|иц[аеуы])|пер(?:\.|еулок|еулк\w)|площад[ьи]|шоссе|ш\.|проезд|пр-д|"
    r"микрорайон\w?|кв-л|квартал\w?|лінія|линия|алея|аллея|в'їзд|въезд"
)
_HOUSE: Final = (
    r"(?:,?\s?(?:буд(?:\.|инок|инку)?|б\.|д(?:\.|ом|оме|ому)?|№|корп\.?|стр\.?)?\s?№?\s?\d{1,4}\s?(?:[-/]\s?\d{1,4})?(?:\s?-?[а-яіїєґА-Я](?![\w.]))?\b)"
    r"(?:,?\s?(?:корп(?:ус)?|к|стр|літ|лит|секція|под(?:ъезд)?|під(?:'їзд)?|парадне)\.?\s?\w{1,3}\b)?"
    r"(?:,?\s?(?:кв(?:\.|артира|артире|артирі)?|оф(?:\.|іс|ис)?|кімн?\.|комн?\.|пом\.)\s?№?\s?\d{1,5}\b)?"
    rf"(?:,\s?(?:(?:м|г|с|смт|п)\.\s?)?[{_UP}][\w'’ʼ-]{{1,40}}(?:\s[{_UP}][\w'’ʼ-]{{1,40}})?(?=,\s?\d{{5,6}}\b))?(?:,\s?\d{{5,6}}\b)?"
)
_CYRILLIC: Final = tuple(
    re.compile(form, re.IGNORECASE if low else 0)
    for low, form in (
        (False, rf"(?<!\w)(?i:{_STREET_WORD})\s?[«\"]?{_NAME}[»\"]?{_HOUSE}?"),
        (False, rf"(?<!\w)[{_UP}][\w'’-]{{1,40}}(?:\s[{_UP}][\w'’-]{{1,40}}){{0,2}}\s(?i:{_STREET_WORD}){_HOUSE}?"),
        (False, rf"(?<!\w)(?:п|с|д|г|м|к|х|ст|клх|пгт|смт|рп)\.?\s[{_UP}][\w-]{{1,40}}(?:[\s-]?\(?[\w.-]{{1,40}}\)?)?(?=,\s(?i:{_STREET_WORD})\s?[{_UP}])"),
        (True, r"(?<!\w)(?:кв|квартир\w)\.?\s?№?\s?\d{1,4}(?!\w)"),
        (True, r"(?<!\w)(?:буд|будин\w{2,3})\.?\s?№?\s?\d{1,4}\s?[-/]?\s?\w?(?!\w)"),
        (True, r"(?<!\w)(?:д|дом)\.?\s?№?\s?\d{1,4}\s?[-/]?\s?\w?(?=,?\s?(?:кв|корп|оф))"),
        (True, r"(?<!\w)(?:індекс|индекс|поштовий\sіндекс|почтовый\sиндекс)[\s:]{0,3}\d{5,6}(?!\w)"),
        (False, rf"(?<![\w.,])\d{{5,6}}(?=,\s?(?:м\.|г\.|с\.|смт|обл|[{_UP}]))"),
        (True, r"(?<!\w)(?:а/?с|абонентська скринька|абонентский ящик)\s?№?\s?\d{1,6}(?!\w)"),
        (False, r"\b\d{1,5}[A-Za-z]?,?\s(?:vul|vulytsia|prosp|ul|ulitsa|per)\.?\s[A-Z][\w'’-]{1,40}"),
        (False, r"\b(?:vul|vulytsia|prosp|bulv|prov|ul|ulitsa|pereulok)\.?\s[A-Z][\w'’-]{1,40}(?:\s[A-Z][\w'’-]{1,40})?,?(?:\s?\d{1,4}\w?)?"),
    )
)  # fmt: skip
_PLACES: Final = tuple(
    re.compile(form)
    for form in (
        rf"(?<!\w)(?:м\.|місто|місті|міста|г\.|гор\.|город|городе|города|с\.|село|селі|села|селе|сел\.|смт\.?|пгт\.?|пос\.|посёлок|поселок|посёлке|селищ[еіа]|ст\.|станица|хут\.|хутір|дер\.|деревня|деревне|аул)\s?(?P<name>[{_UP}][\w'’ʼ-]{{1,40}}(?:\s[{_UP}][\w'’ʼ-]{{1,40}})?)",
        rf"(?<!\w)(?P<name>[{_UP}][\w'’ʼ-]{{1,40}}(?:ськ|ск|цьк|цк)\w{{2,3}}\s(?:обл\b\.?|област[ьіию]|р-н\w?|район\w?|громад[аиі]))",
    )
)


def addresses(text: str) -> Iterator[Span]:
    """Addresses and parts of addresses."""
    for form in _ENGLISH:
        yield from (Span(*m.span(), "ADDRESS") for m in form.finditer(text))
    for match in _CITY_STATE.finditer(text):
        yield Span(*match.span("city"), "LOCATION")
    for form in _CYRILLIC:
        yield from (Span(*m.span(), "ADDRESS") for m in form.finditer(text))
    for form in _PLACES:
        yield from (Span(*m.span("name"), "LOCATION") for m in form.finditer(text))
