"""What one validation finds out, and what it has to ask for.

Checks run without waiting. What they have to know from elsewhere (codes of a value set, a resource
that is referred to) is a ``Question``: where its answer is not there yet it is noted, the
check goes on as if nothing were known, and the whole is done again when it has been answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from fhir_server.fhirpath import Context, Node
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue

MAX_ISSUES: Final = 100
MAX_DEPTH: Final = 40
"""Profiles within profiles."""


class Question(NamedTuple):
    """``about``: the canonical url of a value set or questionnaire, or a reference. ``code``: of
    a value set, is this one in it?"""

    kind: Literal["value-set", "code", "reference", "questionnaire"]
    about: str
    system: str = ""
    code: str = ""


class Membership(Protocol):
    """The codes of a value set, as far as they are known."""

    @property
    def url(self) -> str: ...

    @property
    def listed(self) -> bool:
        """Are all its codes known? Else each is a question of its own."""
        ...

    @property
    def candidates(self) -> tuple[str, ...]:
        """Of one that is not listed: the systems of a code that states none."""
        ...

    @property
    def unknown(self) -> str:
        """Why nothing can be told; "" if something can."""
        ...

    def has(self, system: str | None, code: str) -> bool | None:
        """None: it cannot be told. ``system`` None: of an element that states none."""
        ...


Check: TypeAlias = Callable[[Node, "Judging"], None]


class Library(Protocol):
    """The profiles that are known."""

    def profile(self, url: str) -> Check | None:
        """The check of a profile; None if it is not known. ValueError if it cannot be used."""
        ...

    def structure(self, url: str) -> Json | None: ...


class Surroundings(Protocol):
    """How references are followed within what is validated."""

    def resolve(self, text: str, node: Node) -> Node | None: ...

    def bundled(self, node: Node) -> bool:
        """Is the node an entry of the Bundle?"""
        ...


class Answers:
    """``shared``: what holds for everybody. ``own``: what was asked for one validation.
    ``following``: references may be followed to elsewhere; ``outside``: how severe it is that what
    is there does not conform.
    """

    __slots__ = ("following", "outside", "own", "shared")

    def __init__(
        self,
        shared: Mapping[Question, Any],
        *,
        following: bool = True,
        outside: str = "warning",
    ) -> None:
        self.outside = outside
        self.shared = shared
        self.own: dict[Question, Any] = {}
        self.following = following


class Judging:
    """One pass over one resource."""

    def __init__(
        self,
        definitions: Library,
        surroundings: Surroundings,
        answers: Answers,
        context: Context,
    ) -> None:
        self.definitions = definitions
        self.surroundings = surroundings
        self.context = context
        self.pending: set[Question] = set()
        self.issues: list[Issue] = []
        self._answers = answers
        self._conforms: dict[tuple[int, str], bool] = {}
        self._depth = 0

    def add(
        self, node: Node, code: str, text: str, below: str = "", severity: str = "error"
    ) -> None:
        """``below``: an element of the node that is not there."""
        if len(self.issues) < MAX_ISSUES:
            expression = f"{place(node)}.{below}" if below else place(node)
            issue = Issue(code, f"{text}", expression, severity)
            if issue not in self.issues:
                self.issues.append(issue)

    def ask(self, kind: Literal["value-set", "reference", "questionnaire"], about: str) -> Any:
        """The answer, None while there is none."""
        return self._asked(Question(kind, about))

    def _asked(self, question: Question) -> Any:
        answers: Any = self._answers
        found = answers.shared.get(question, answers)
        if found is answers:
            found = answers.own.get(question, answers)
        if found is answers:
            self.pending.add(question)
            return None
        return found

    def member(self, codes: Membership, system: str | None, code: str) -> bool | None:
        """Is it in the value set? None: it cannot be told (yet)."""
        if codes.listed or codes.unknown:
            return codes.has(system, code)
        systems = codes.candidates if system is None else (system,)
        found = [self._asked(Question("code", codes.url, one, code)) for one in systems]
        if True in found:
            return True
        return None if None in found or not found else False

    def resolve(self, text: str, node: Node) -> Node | None:
        """What a reference leads to: within what is validated, else wherever it is asked for."""
        found = self.surroundings.resolve(text, node)
        here = text.startswith(("#", "urn:")) or not self._answers.following
        if found is not None or here:
            return found
        answer: Node | None = self.ask("reference", text)
        return answer

    @property
    def outside(self) -> str:
        """The severity of what is wrong with a target elsewhere."""
        return self._answers.outside

    def conforms(self, node: Node, url: str) -> bool:
        """Without a word about why not. A profile that is not known is conformed to."""
        key = id(node.value), url
        known = self._conforms.get(key)
        if known is None:
            self._conforms[key] = True  # of what leads back to itself nothing more is asked
            known = self._conforms[key] = not self.faults(node, url)
        return known

    def faults(self, node: Node, url: str) -> list[Issue]:
        """The errors of a node as of a profile."""
        check = self.definitions.profile(url)
        if check is None:
            return []
        kept, self.issues = self.issues, []
        try:
            self.run(check, node)
            return [issue for issue in self.issues if issue.severity == "error"]
        finally:
            self.issues = kept

    def run(self, check: Check, node: Node) -> None:
        """A check of another profile; RecursionError where they go on without end.

        Packages may hold definitions of any shape: what one leads to is said, as an error.
        """
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RecursionError("profiles within profiles")
        try:
            check(node, self)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            text = f"a profile contradicts itself: {type(error).__name__} {str(error)[:100]}"
            self.add(node, "not-supported", text)
        finally:
            self._depth -= 1


def place(node: Node) -> str:
    """The location, as structural validation says it: ``Observation.value.ofType(Quantity)``."""
    if node.parent is None:
        return node.property.type
    step = f"{place(node.parent)}.{node.property.name}"
    if node.property.json != node.property.name:
        step = f"{step}.ofType({node.property.type})"
    return step if node.index is None else f"{step}[{node.index}]"
