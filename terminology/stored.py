"""What a search asks of terminology: the codes of value sets, above and below a code.

Answered from the CodeSystems and ValueSets of this server and those of FHIR itself.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from fhir_server.model.problem import BadRequest
from terminology.codes import Code
from terminology.compose import Composing
from terminology.concepts import Recent
from terminology.service import Refused, Source

MOST_CODES: Final = 5000
"""A search by more codes than this is refused: each is a look-up in the index, 20 to 40 us."""


class Question(NamedTuple):
    """``about``: the value set (``members``) or the code system of ``code``. ``case``: is it
    case-sensitive? Then the answer is the system, else it is empty. ``under``, ``over``: resources
    of the type ``about``, by ``partOf``, of the one whose id is ``code``."""

    kind: Literal["members", "below", "above", "case", "under", "over"]
    about: str
    code: str = ""


class Unloaded(Exception):
    """A question whose answer has to be fetched first."""

    def __init__(self, question: Question) -> None:
        super().__init__(f"not loaded: {question}")
        self.question = question


class Known:
    """The answers so far, for criteria that are read at once: another question raises Unloaded."""

    def __init__(self) -> None:
        self._answers: dict[Question, tuple[Code, ...]] = {}

    def learn(self, question: Question, answer: tuple[Code, ...]) -> None:
        self._answers[question] = answer

    def _of(self, question: Question) -> tuple[Code, ...]:
        if question not in self._answers:
            raise Unloaded(question)
        return self._answers[question]

    def members(self, value_set: str) -> tuple[Code, ...]:
        return self._of(Question("members", value_set))

    def below(self, system: str, code: str) -> tuple[Code, ...]:
        return self._of(Question("below", system, code))

    def above(self, system: str, code: str) -> tuple[Code, ...]:
        return self._of(Question("above", system, code))

    def under(self, type_: str, id_: str) -> tuple[Code, ...]:
        return self._of(Question("under", type_, id_))

    def over(self, type_: str, id_: str) -> tuple[Code, ...]:
        return self._of(Question("over", type_, id_))


class StoredTerminology:
    """Answers questions; every answer is read afresh."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._recent = Recent()

    async def answer(self, question: Question) -> tuple[Code, ...]:
        """In order of system and code. Raises BadRequest: unknown, not expandable, too large."""
        try:
            codes = await self._codes(question)
        except Refused as refused:
            raise BadRequest(refused.text, code=refused.code) from refused
        if len(codes) > MOST_CODES:
            raise BadRequest(
                f"{question.about[:200]}: more than {MOST_CODES} codes", code="too-costly"
            )
        return tuple(sorted(codes, key=lambda c: (c.system, c.code or "")))

    async def _codes(self, question: Question) -> set[Code]:
        work = Composing(self._source, self._recent)
        if question.kind == "members":
            return set(await work.value_set(question.about))
        if question.kind == "case":
            system = await self._source.find("CodeSystem", question.about, "")
            matters = system is not None and system.get("caseSensitive") is True
            return {Code(question.about, None)} if matters else set()
        concepts = await work.whole(question.about)
        if question.code not in concepts.by_code:
            text = f"{question.code[:100]!r} is not a code of {question.about[:200]}"
            raise Refused("code-invalid", text)
        if question.kind == "below":
            found = concepts.below(question.code, MOST_CODES + 1)
        else:
            found = concepts.above(question.code)
        return {Code(question.about, code) for code in found}
