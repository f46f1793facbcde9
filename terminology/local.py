"""The terminology service over the resources that a Source gives.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from terminology.codes import WHOLE, Member
from terminology.compose import Composing
from terminology.concepts import Concepts, Recent
from terminology.service import ANY_VERSION, Coded, Json, Refused, Source, Verdict, Versions

RECENT: Final = Recent()
"""Shared by all callers: it is asked with what a caller's own Source gave."""


class Found(NamedTuple):
    """A concept of a code system."""

    concepts: Concepts
    code: str


class Local:
    """Answers one caller. Raises Refused."""

    def __init__(self, source: Source, versions: Versions = ANY_VERSION) -> None:
        self.source = source
        self.work = Composing(source, RECENT, versions)

    async def code_system(self, url: str, version: str = "") -> Concepts:
        """With whatever content it has here; not-found if there is none."""
        found = await self.work.concepts(url, version)
        if found is None:
            named = f"{url}|{version}" if version else url
            raise Refused("not-found", f"the code system {named[:200]} is not known here")
        return found

    async def concept(self, coded: Coded) -> Found:
        concepts = await self.code_system(coded.system, coded.version)
        code = concepts.find(coded.code)
        if code is None:
            text = f"{coded.code[:100]!r} is not a code of {concepts.canonical[:200]}"
            raise Refused("not-found", text)
        return Found(concepts, code)

    async def subsumes(self, left: Coded, right: Coded) -> str:
        """The outcome: https://hl7.org/fhir/R4/valueset-concept-subsumption-outcome.html"""
        if left.system != right.system:
            raise Refused("not-supported", "the codes are of different code systems")
        a, b = await self.concept(left), await self.concept(right)
        if a.code == b.code:
            return "equivalent"
        if not a.concepts.is_a:
            text = f"the hierarchy of {left.system[:200]} is not one of subsumption"
            raise Refused("not-supported", text)
        if a.code in b.concepts.above(b.code):
            return "subsumes"
        return "subsumed-by" if b.code in a.concepts.above(a.code) else "not-subsumed"

    def is_in_system(
        self, concepts: Concepts, coded: Coded, language: str = "", *, abstract: bool = True
    ) -> Verdict:
        """Is it a code of the system, under this display?"""
        if coded.system != concepts.url:
            return Verdict(False, f"{coded.system[:200]} is not {concepts.url[:200]}")
        if coded.version and concepts.version and coded.version != concepts.version:
            text = f"version {coded.version[:60]} of {concepts.url[:200]} is not this one"
            return Verdict(False, text)
        return _selectable(concepts, coded, verdict(concepts, coded, language), abstract)

    async def is_member(
        self, value_set: Json, name: str, coded: Coded, language: str = "", *, abstract: bool = True
    ) -> Verdict:
        """Is it in the value set, which messages call ``name``? ``abstract``: may it be a concept
        that is not to be selected by itself?"""
        concepts = await self.work.concepts(coded.system, coded.version)
        code = coded.code if concepts is None else concepts.find(coded.code) or coded.code
        said = await self.work.member(value_set, name, coded.system, code)
        concepts = await self.work.concepts(coded.system, coded.version)
        stated = self.work.stated(coded.system)
        if stated and coded.version and stated != coded.version:
            text = f"the value set {name[:200]} is of version {stated[:60]} of the code system"
            return Verdict(False, text)
        if said is None:
            text = f"{coded.system[:200]}#{coded.code[:100]} is not in the value set {name[:200]}"
            return Verdict(False, text)
        if concepts is None:
            return _unchecked(coded, said)
        judged = verdict(concepts, coded, language, said.display)
        return _selectable(concepts, coded, judged, abstract)


def _selectable(concepts: Concepts, coded: Coded, judged: Verdict, abstract: bool) -> Verdict:
    """The verdict, where abstract codes count only if ``abstract``."""
    if abstract or not judged.result or not concepts.abstract(concepts.find(coded.code) or ""):
        return judged
    text = f"{coded.code[:100]!r} is abstract and not to be selected by itself"
    return judged._replace(result=False, message=text)


def _unchecked(coded: Coded, said: Member) -> Verdict:
    """Of a code system that is not here: only what the value set lists can be known."""
    if said is WHOLE:
        text = f"the code system {coded.system[:200]} is not known here, so the code is not known"
        return Verdict(False, text)
    if said.display and coded.display and not _same(said.display, coded.display):
        return Verdict(False, f"The display {coded.display[:200]!r} is incorrect", said.display)
    return Verdict(True, "", said.display)


def verdict(concepts: Concepts, coded: Coded, language: str, said: str = "") -> Verdict:
    """``said``: a display of the value set's own."""
    code = concepts.find(coded.code)
    if code is None:
        text = f"{coded.code[:100]!r} is not a code of {concepts.canonical[:200]}"
        if not concepts.complete:
            text += f", of which only a part is known here ({concepts.content[:20]})"
        return Verdict(False, text)
    display = said or concepts.display(code, language)
    fitting = [said, *_displays(concepts, code)]
    if coded.display and not any(_same(coded.display, one) for one in fitting):
        return Verdict(False, f"The display {coded.display[:200]!r} is incorrect", display)
    note = f"{code[:100]!r} is not active" if concepts.inactive(code) else ""
    return Verdict(True, note, display)


def _displays(concepts: Concepts, code: str) -> list[str]:
    concept: Json = concepts.by_code[code]
    found = [str(one.get("value", "")) for one in concept.get("designation", ())]
    return [str(concept.get("display", "")), *found]


def _same(one: str, other: str) -> bool:
    """Case and white space do not tell displays apart."""
    return one.casefold().split() == other.casefold().split()


def best(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a CodeableConcept: one good coding is enough; what is wrong is told in any case."""
    message = "; ".join(dict.fromkeys(v.message for v in verdicts if v.message))
    good = next((v for v in verdicts if v.result), None)
    chosen = good or next((v for v in verdicts if v.display), Verdict(False))
    return Verdict(good is not None, message, chosen.display)
