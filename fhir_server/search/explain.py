"""A plan as text, and what a store notes while it runs one: ``_explain=true``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from fhir_server.model.datatypes import format_instant
from fhir_server.search import plan
from fhir_server.search.plan import Include, Predicate, Scan, Search, SortKey
from fhir_server.search.values import DATE_MAX, DATE_MIN, FOLDED

T = TypeVar("T")


@dataclass(slots=True)
class Step:
    """``estimate``: rows that the planner expected, at least so many where ``open``;
    ``actual``: rows that there were; ``micros``: time that it took."""

    text: str
    estimate: int | None = None
    actual: int | None = None
    micros: int | None = None
    open: bool = False

    def __str__(self) -> str:
        parts = []
        if self.estimate is not None:
            parts.append(f"estimate {'at least ' if self.open else ''}{self.estimate:,}")
        if self.actual is not None:
            parts.append(f"actual {self.actual:,}")
        if self.micros is not None:
            parts.append(f"{self.micros:,} us")
        return self.text + (f" ({', '.join(parts)})" if parts else "")


@dataclass(slots=True)
class Trace:
    """Handed to a store with a plan; ``search``: the plan that was run, restricted."""

    search: Search | None = None
    steps: list[Step] = field(default_factory=list)

    def step(
        self,
        text: str,
        *,
        estimate: int | None = None,
        actual: int | None = None,
        since: int | None = None,
        open: bool = False,
    ) -> Step:
        """``since``: when it began, by ``time.perf_counter_ns``."""
        micros = None if since is None else (time.perf_counter_ns() - since) // 1000
        self.steps.append(Step(text, estimate, actual, micros, open))
        return self.steps[-1]

    def counted(self, text: str, items: Iterator[T]) -> Iterator[T]:
        """The same items; how many were taken, and the time until each was there."""
        step = self.step(text, actual=0)
        nanos = taken = 0
        while True:
            began = time.perf_counter_ns()
            item = next(items, None)
            nanos += time.perf_counter_ns() - began
            step.micros = nanos // 1000
            if item is None:
                return
            taken += 1
            step.actual = taken
            yield item

    def texts(self) -> list[str]:
        """The plan, then each step, for people."""
        shown = [] if self.search is None else ["\n".join(search_lines(self.search))]
        return shown + [str(step) for step in self.steps]


def search_lines(search: Search) -> list[str]:
    """A plan, a line for each node, indented by depth."""
    lines = [line for scan in search.scans for line in scan_lines(scan)]
    lines.append("sort " + ", ".join(_sort(key) for key in search.sort))
    lines.append(f"page of {search.count}" + (" after a cursor" if search.after else ""))
    lines.append(f"total {search.total}")
    if search.rest is not None:
        lines.append("only the rest of what its matches include")
    if search.as_of is not None:
        lines.append(f"as of {search.as_of}")
    for include in search.includes:
        lines += _include(include)
    return lines


def scan_lines(scan: Scan, depth: int = 0) -> list[str]:
    head = "  " * depth + f"scan {scan.type}"
    return [head] if scan.where == plan.TRUE else [head, *lines_of(scan.where, depth + 1)]


def _sort(key: SortKey) -> str:
    return f"{'-' if key.descending else ''}{key.param} ({key.kind})"


def _include(include: Include) -> list[str]:
    kind = "revinclude" if include.reverse else "include"
    again = ", iterate" if include.iterate else ""
    head = f"{kind} {include.source.type}:{include.param}{again}"
    inner = [include.source, *include.targets]
    return [head, *(line for scan in inner for line in scan_lines(scan, 1))]


def lines_of(predicate: Predicate, depth: int = 0) -> list[str]:
    """A predicate, a line for each node."""
    head = "  " * depth
    match predicate:
        case plan.All(parts):
            return [head + ("all of" if parts else "anything"), *_inner(parts, depth)]
        case plan.Any(parts):
            return [head + ("any of" if parts else "nothing"), *_inner(parts, depth)]
        case plan.Not(part):
            return [head + "not", *lines_of(part, depth + 1)]
        case plan.Chain(param, targets, _):
            below = [line for scan in targets for line in scan_lines(scan, depth + 1)]
            if predicate.inside:
                below.append("  " * (depth + 1) + "or a contained resource of the same")
            return [f"{head}{param} leads to", *below]
        case plan.Contains(scan):
            return [f"{head}contains", *scan_lines(scan, depth + 1)]
        case plan.Has(source, param, _):
            return [f"{head}is referred to by {param} of", *scan_lines(source, depth + 1)]
        case plan.Coded(system, code):
            return [f"{head}has the code {'' if system is None else f'{system}|'}{code}"]
        case plan.EachPatient(rules):
            return [f"{head}each of its patients permits it ({len(rules)} with rules)"]
        case plan.Composite(param, parts):
            return [f"{head}one element of {param}", *_inner(parts, depth)]
        case _:
            return [head + leaf_text(predicate)]


def _inner(parts: tuple[Predicate, ...], depth: int) -> list[str]:
    return [line for part in parts for line in lines_of(part, depth + 1)]


def _code_text(code: str) -> str:
    folded = " in any case" if code.endswith(FOLDED) else ""
    return code.removesuffix(FOLDED).replace("\0", " of ") + folded


def leaf_text(leaf: plan.Leaf) -> str:
    """A leaf in one line."""
    match leaf:
        case plan.IdIn(ids):
            return f"_id in {', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''}"
        case plan.UpdatedIs(prefix, lo, hi):
            return f"_lastUpdated {prefix} {_span(lo, hi)}"
        case plan.TokenIs(param, system, code):
            where = "" if system is None else f"{system or '(no system)'}|"
            return f"{param} is {where}{'(any code)' if code is None else _code_text(code)}"
        case plan.StringIs(param, text, mode):
            return f"{param} {mode} {text!r}"
        case plan.DateIs(param, prefix, lo, hi):
            return f"{param} {prefix} {_span(lo, hi)}"
        case plan.NumberIs(param, prefix, value, lo, hi):
            return f"{param} {prefix} {value} [{lo}, {hi})"
        case plan.QuantityIs(param, prefix, value, lo, hi):
            unit = leaf.canonical_unit or leaf.code or "(any unit)"
            return f"{param} {prefix} {value} [{lo}, {hi}) {unit}"
        case plan.ReferenceIs(param, type_, id_, url, version):
            target = url or f"{type_ or '(any type)'}/{id_}"
            return f"{param} refers to {target}{f' version {version}' if version else ''}"
        case plan.UriIs(param, uri, mode):
            return f"{param} {mode} {uri}"
        case plan.Present(param, kind):
            return f"{param} has a {kind}"
        case plan.Near(param, latitude, longitude, metres):
            return f"{param} within {metres} m of {latitude}, {longitude}"
        case plan.TextHas(param, words, prefix):
            return f"{param} has {' '.join(words) + ('*' if prefix else '')!r}"
        case plan.Dated(lo, hi):
            return f"its date is in {_span(lo, hi)}"
        case plan.InPatient(ids):
            return f"in the compartment of Patient {', '.join(ids[:5])}"
        case _:
            assert_never(leaf)


def _span(lo: int, hi: int) -> str:
    return f"[{_moment(lo)}, {_moment(hi)})"


def _moment(micros: int) -> str:
    if micros <= DATE_MIN or micros >= DATE_MAX:
        return "open"
    try:
        return format_instant(micros)
    except (OverflowError, ValueError):
        return str(micros)


def short(predicate: Predicate) -> str:
    """A predicate in one line."""
    return " ".join(line.strip() for line in lines_of(predicate))
