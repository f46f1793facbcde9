"""What intruders reach (``linkage.py``) against what an export shows of the clinosim set."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from linkage import SINGLE, Facts, facts, success
from test_canary import YEAR
from test_patients import clinosim

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from operations.deid.cohort.judging import Cohort
from operations.deid.engine import Deidentifier, profiles
from operations.deid.keys import ProjectKey
from operations.deid.run import Run
from operations.research.exposure import MEASURED
from tests.prove.conftest import Row, proven, scaled

__all__ = ["proven"]
Records = Sequence[Sequence[Json]]


def released(profile: Deidentifier, records: Records) -> list[list[Json]]:
    """All records through one run, as in an export: with what the profile asks of sets."""
    run = Run(YEAR, key=ProjectKey("study", 1, b"k" * 32))
    made = [[profile.resource(one, run) for one in record] for record in records]
    asked = profile.profile.cohort
    if asked is None:
        return made
    cohort = Cohort(asked)
    pairs = [list(zip(*pair, strict=True)) for pair in zip(records, made, strict=True)]
    for pair in pairs:
        for source, one in pair:
            cohort.note(source, one, run)
    asyncio.run(cohort.settle())
    shown = [[cohort.show(source, one, run) for source, one in pair] for pair in pairs]
    cohort.close()
    return [[one for one in some if one is not None] for some in shown]


def found(profile: Deidentifier, records: Records) -> dict[str, float]:
    original = [facts(record) for record in records]
    return success(original, [facts(record) for record in released(profile, records)])


def records_of(shared: Path, count: int) -> list[list[Json]]:
    """Of each patient what is in the compartment."""
    shared_by_all = ("Organization", "Practitioner", "PractitionerRole", "Location")
    return [
        [
            entry["resource"]
            for entry in bundle["entry"]
            if entry["resource"]["resourceType"] not in shared_by_all
        ]
        for bundle in clinosim(shared, count)
    ]


@pytest.fixture(scope="module")
def twelve(shared: Path) -> list[list[Json]]:
    return records_of(shared, 12)


def of(code: str) -> Deidentifier:
    return next(one for one in profiles() if one.profile.code == code)


def test_the_attack_finds_everybody_where_nothing_is_hidden(twelve: Records) -> None:
    original = [facts(record) for record in twelve]
    rates = success(original, original)
    assert rates["the whole record"] == rates["combined"] == rates["birth date and sex"] == 1.0
    assert rates["all dates"] > 0.9 and rates["intervals of all dates"] > 0.9


def test_a_day_leads_to_fewer(twelve: Records) -> None:
    original = [facts(record) for record in twelve]
    plain = success(original, original)
    for profile in profiles():
        rates = found(profile, twelve)
        less = rates["a date"] < plain["a date"] and rates["a value"] < plain["a value"]
        assert less is (profile.profile.code != "limited")


def test_safe_harbor_hides_everybody_among_others(twelve: Records) -> None:
    """Without what it asks of sets the same people are found."""
    rates = found(of("safe-harbor"), twelve)
    assert not any(rate for name, rate in rates.items() if "guessing" not in name), rates
    assert max(rates.values()) <= 0.2
    apart = found(kinds_apart(), twelve)
    assert not any(apart[name] for name in SINGLE)
    alone = Deidentifier(replace(of("safe-harbor").profile, cohort=None), load())
    rates = found(alone, twelve)
    assert rates["all dates"] > 0.3 and rates["birth date and sex"] > 0.3
    assert rates["a value, with care"] > 0.1 and rates["the rarest diagnosis"] > 0.1


def kinds_apart() -> Deidentifier:
    """k alike in each kind of thing, not in all of them together."""
    profile = of("safe-harbor").profile
    assert profile.cohort is not None
    cohort = replace(profile.cohort, together=False)
    return Deidentifier(replace(profile, cohort=cohort), load())


HERE = Path(__file__).parents[3]
PAGE = HERE / "ig" / "pagecontent" / "deidentification.md"
MARKS = ("<!-- linkage -->\n", "<!-- /linkage -->")
COLUMNS = {
    "`safe-harbor`": "safe-harbor",
    "each kind": "safe-harbor, each kind",
    "rules": "safe-harbor, rules alone",
    "`limited`": "limited",
    "`research`": "research",
}


def measured() -> dict[str, dict[str, str]]:
    """From the rows of PROVEN.md: set -> what is known -> per cent."""
    text = (HERE / "PROVEN.md").read_text(encoding="utf-8")
    told: dict[str, dict[str, str]] = {}
    for code, right, before in re.findall(
        r"^\| linkage (.+?) \|.*\| right: (.*?); in the original: (.*?) \|", text, re.MULTILINE
    ):
        told[code] = dict(re.findall(r"([a-z][a-z, ]*?) ([\d.]+)%", right))
        told["original"] = dict(re.findall(r"([a-z][a-z, ]*?) ([\d.]+)%", before))
    return told


def rates_told() -> str:
    """What a data bank tells of its profile (``operations/deid/linkage.json``)."""
    told, found = measured(), {}
    for one in profiles():
        rates = {name: round(float(rate) / 100, 3) for name, rate in told[one.profile.code].items()}
        found[one.profile.canonical] = {"set": SET, "rates": rates}
    return json.dumps(found, indent=1) + "\n"


SET = "246 synthetic patients (clinosim)"


def table() -> str:
    """Of the page."""
    told = measured()
    lines = [f"| what is known | original | {' | '.join(COLUMNS)} |", "|---" * 7 + "|"]
    for name, rate in told["original"].items():
        rates = [rate, *(told[code][name] for code in COLUMNS.values())]
        lines.append(f"| {name} | {' | '.join(f'{one} %' for one in rates)} |")
    return "\n".join(lines) + "\n"


def page() -> tuple[str, str, str]:
    """What is before the table, the table, what is behind it."""
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    told, end, after = rest.partition(MARKS[1])
    return before + mark, told, end + after


def test_the_page_tells_what_was_measured() -> None:
    _, told, _ = page()
    assert told == table()
    assert MEASURED.read_text(encoding="utf-8") == rates_told()
    harbor = re.findall(r"^\| ([a-z, ]+) \| [\d.]+ % \| ([\d.]+) %", told, re.MULTILINE)
    rates = {name: float(rate) for name, rate in harbor if "guessing" not in name}
    assert len(rates) >= 13 and max(rates.values()) <= 1.0


@pytest.mark.prove
def test_linkage(shared: Path, proven: Row) -> None:
    records = records_of(shared, scaled(246))
    original: list[Facts] = [facts(record) for record in records]
    plain = success(original, original)
    alone = Deidentifier(replace(of("safe-harbor").profile, cohort=None), load())
    others = {"safe-harbor, each kind": kinds_apart(), "safe-harbor, rules alone": alone}
    for code, profile in ({one.profile.code: one for one in profiles()} | others).items():
        rates = found(profile, records)
        if code == "safe-harbor":
            assert all(r <= 0.01 for name, r in rates.items() if "guessing" not in name), rates
        if code == "safe-harbor, each kind":
            assert all(rates[name] <= 0.01 for name in SINGLE), rates
        told = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
        before = ", ".join(f"{name} {rate:.1%}" for name, rate in plain.items())
        proven(
            f"linkage {code}",
            "somebody who knows this of a person claims the only record that fits; clinosim",
            f"{len(records)} patients",
            f"right: {told}; in the original: {before}",
        )
    before, _, after = page()
    PAGE.write_text(before + table() + after, encoding="utf-8")
    MEASURED.write_text(rates_told(), encoding="utf-8")
