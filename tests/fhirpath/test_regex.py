"""The linear-time matcher against Python's own ``re`` (which may backtrack)."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath import FhirPathError, FhirPathNotSupported, compile
from fhir_server.fhirpath.regex import Regex

_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\w", "^", "$", "\\b"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})"),
        inner.map(lambda p: f"({p})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "*?", "+?", "??"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    )


PATTERNS = st.recursive(_ATOMS, _grown, max_leaves=6)
TEXTS = st.text("ab c", max_size=6)


def free(steps: int) -> None:
    assert steps >= 0


@given(PATTERNS, TEXTS)
def test_matches_like_re(pattern: str, text: str) -> None:
    python = re.compile(pattern.replace("$", r"\Z"), re.DOTALL)
    assert Regex.of(pattern).matches(text, free) == bool(python.search(text))
    assert Regex.of(pattern).matches(text, free, whole=True) == bool(python.fullmatch(text))


@given(st.sampled_from(["a+", "(a)(b)", "a*?b", "(a|ab)(c|bc)?", "b{1,2}", "^a", "\\bb"]), TEXTS)
def test_replaces_like_re(pattern: str, text: str) -> None:
    expected = re.sub(pattern, r"<\g<0>>", text)
    assert Regex.of(pattern).replace(text, "<$0>", free) == expected


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){20}$", "(a*)*b", "([a-z]+)*!$"])
def test_no_pattern_backtracks(pattern: str) -> None:
    subject = {"resourceType": "Basic", "id": "a" * 2000 + "!x"}
    begin = time.perf_counter()
    compile(f"id.matches('{pattern}')").evaluate(subject)
    compile(f"id.replaceMatches('{pattern}', '')").evaluate({**subject, "id": "a" * 200 + "?"})
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("pattern", ["(", "a)", "*", "[a", "a{2", "a{3,2}", "a**", "\\", "[b-a]"])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(FhirPathError):
        Regex(pattern)


@pytest.mark.parametrize("pattern", ["(a)\\1", "(?=a)", "(?i)a", "(?P<n>a)", "\\p{L}"])
def test_unsupported_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(FhirPathNotSupported):
        Regex(pattern)


def test_large_repetitions_are_refused() -> None:
    with pytest.raises(FhirPathError):
        Regex("((a{900}){900}){900}")
