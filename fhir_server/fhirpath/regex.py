"""Regular expressions in linear time: no pattern, however written, can backtrack.

``matches`` walks a deterministic automaton that is built as it goes (Thompson's sets of
states); ``replace`` follows all threads at once in order of preference (Pike). Both cost at
most text × pattern, paid from the budget. https://swtch.com/~rsc/regexp/regexp2.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias, assert_never

from fhir_server.fhirpath.pattern import Assertion, Characters, Done, Save, Split, program

Spend: TypeAlias = Callable[[int], None]
States: TypeAlias = frozenset[int]
Slots: TypeAlias = tuple[int, ...]
_GROUP = re.compile(r"\$(\d)|\\(.)", re.DOTALL)
_MAX_CACHED = 5_000


class Regex:
    """A compiled pattern. ``Regex.of`` keeps the recent ones."""

    def __init__(self, pattern: str) -> None:
        self._code = program(pattern)
        self._slots = 2 + max((i.slot for i in self._code if isinstance(i, Save)), default=1)
        self._boundaries = any(isinstance(i, Assertion) and i.kind in "bB" for i in self._code)
        self._moves: dict[tuple[States, str, bool], States] = {}

    @staticmethod
    @lru_cache(maxsize=256)
    def of(pattern: str) -> Regex:
        """Raises FhirPathError for a bad pattern, FhirPathNotSupported."""
        return Regex(pattern)

    def matches(self, text: str, spend: Spend, *, whole: bool = False) -> bool:
        """Whether a part of the text (all of it when ``whole``) is of the pattern."""
        if self._boundaries:
            return self._search_any(text, spend, whole)
        spend(1 + len(text))
        end = len(self._code) - 1
        states = self._closure({0}, start=True, finish=False)
        for character in text:
            if not whole and end in states:
                return True
            states = self._move(states, character, not whole, spend)
            if not states:
                return False
        return end in self._closure(states, start=not text, finish=True)

    def _move(self, states: States, character: str, floating: bool, spend: Spend) -> States:
        key = (states, character, floating)
        moved = self._moves.get(key)
        if moved is None:
            spend(1 + len(states))
            code = self._code
            after = set()
            for at in states:
                instruction = code[at]
                if isinstance(instruction, Characters) and character in instruction:
                    after.add(at + 1)
            if floating:
                after.add(0)
            moved = self._closure(after, start=False, finish=False)
            if len(self._moves) >= _MAX_CACHED:
                self._moves.clear()
            self._moves[key] = moved
        return moved

    def _closure(self, states: set[int] | States, *, start: bool, finish: bool) -> States:
        """What can be reached without a character; ``$`` waits until the end."""
        found: set[int] = set()
        todo = list(states)
        while todo:
            at = todo.pop()
            if at in found:
                continue
            instruction = self._code[at]
            found.add(at)
            if isinstance(instruction, Split):
                todo += (instruction.first, instruction.second)
            elif isinstance(instruction, Save) or (
                isinstance(instruction, Assertion)
                and (start if instruction.kind == "^" else finish)
            ):
                todo.append(at + 1)
        return frozenset(found)

    def _search_any(self, text: str, spend: Spend, whole: bool) -> bool:
        slots = self._search(text, 0, spend, whole=whole)
        return slots is not None

    def replace(self, text: str, substitution: str, spend: Spend) -> str:
        """Every match replaced; ``$1`` in the substitution is what group 1 matched."""
        parts = []
        at = 0
        while at <= len(text):
            slots = self._search(text, at, spend)
            if slots is None:
                break
            begin, end = slots[0], slots[1]
            parts.append(text[at:begin])
            parts.append(self._expand(text, substitution, slots))
            spend(1 + len(parts[-1]) // 10)
            if end == begin:
                parts.append(text[end : end + 1])
                end += 1
            at = end
        parts.append(text[at:])
        return "".join(parts)

    def _expand(self, text: str, substitution: str, slots: Slots) -> str:
        def group(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[2]
            number = 2 * int(match[1])
            if number >= len(slots) or slots[number] < 0 or slots[number + 1] < 0:
                return ""
            return text[slots[number] : slots[number + 1]]

        return _GROUP.sub(group, substitution)

    def _search(self, text: str, begin: int, spend: Spend, *, whole: bool = False) -> Slots | None:
        """The preferred leftmost match from ``begin`` on: positions of its groups."""
        found: Slots | None = None
        threads: dict[int, Slots] = {}
        empty = (-1,) * self._slots
        for position in range(begin, len(text) + 1):
            if found is None and (not whole or position == begin):
                self._follow(threads, 0, empty, text, position)
            spend(1 + len(threads))
            after: dict[int, Slots] = {}
            for at, slots in threads.items():
                instruction = self._code[at]
                if isinstance(instruction, Done):
                    if whole and position < len(text):
                        continue
                    found = slots
                    break
                if (
                    isinstance(instruction, Characters)
                    and position < len(text)
                    and text[position] in instruction
                ):
                    self._follow(after, at + 1, slots, text, position + 1)
            threads = after
            if not threads and (found is not None or whole):
                break
        return found

    def _follow(
        self, threads: dict[int, Slots], at: int, slots: Slots, text: str, position: int
    ) -> None:
        """Add what can be reached from ``at``, in order of preference."""
        todo = [(at, slots)]
        while todo:
            at, slots = todo.pop()
            if at in threads:
                continue
            instruction = self._code[at]
            threads[at] = slots
            match instruction:
                case Split(first, second):
                    todo += ((second, slots), (first, slots))
                case Save(slot):
                    todo.append((at + 1, (*slots[:slot], position, *slots[slot + 1 :])))
                case Assertion(kind):
                    if _holds(kind, text, position):
                        todo.append((at + 1, slots))
                case Characters() | Done():
                    pass
                case _:
                    assert_never(instruction)


def _holds(kind: str, text: str, position: int) -> bool:
    if kind == "^":
        return position == 0
    if kind == "$":
        return position == len(text)
    before = position > 0 and _is_word(text[position - 1])
    after = position < len(text) and _is_word(text[position])
    return (before != after) is (kind == "b")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
