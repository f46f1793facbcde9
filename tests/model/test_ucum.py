"""UCUM: the official functional tests, and the traps around them."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from decimal import Context, Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fhir_server.model import ucum

Case = tuple[str, dict[str, str]]


def cases(root: Path) -> Iterator[Case]:
    tree = ElementTree.parse(root / "conformance" / "ucum" / "UcumFunctionalTests.even.xml")
    for section in tree.getroot():
        if section.tag != "history":
            for case in section:
                yield section.tag, dict(case.attrib)


def agrees(got: Decimal, expected: str) -> bool:
    """Equal to as many digits as the test states."""
    digits = len(Decimal(expected).as_tuple().digits)
    return Context(prec=digits).plus(got) == Decimal(expected)


def passes(kind: str, case: dict[str, str]) -> bool:
    match kind:
        case "validation":
            return ucum.is_valid(case["unit"]) == (case["valid"] == "true")
        case "displayNameGeneration":
            return ucum.display(case["unit"]) == case["display"]
        case "conversion":
            got = ucum.convert(Decimal(case["value"]), case["srcUnit"], case["dstUnit"])
            return agrees(got, case["outcome"])
        case "multiplication" | "division":
            calculate = ucum.multiply if kind == "multiplication" else ucum.divide
            value, unit = calculate(
                Decimal(case["v1"]), case["u1"], Decimal(case["v2"]), case["u2"]
            )
            expected, text = ucum.canonical(Decimal(case["vRes"]), case["uRes"] or "1")
            return text == unit and agrees(value, str(expected))
        case _:
            raise AssertionError(f"unknown section {kind}")


def failures(root: Path, flip: bool = False) -> list[Case]:
    return [(kind, case) for kind, case in cases(root) if passes(kind, case) == flip]


def test_official_cases(shared: Path) -> None:
    assert failures(shared) == []
    assert len(list(cases(shared))) == 288


def test_harness_goes_red_when_flipped(shared: Path) -> None:
    assert len(failures(shared, flip=True)) == 288


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        ("37", "Cel", "[degF]", "98.6"),
        ("98.6", "[degF]", "Cel", "37"),
        ("310.15", "K", "Cel", "37"),
        ("29.6", "[degRe]", "Cel", "37"),
        ("37000", "mCel", "Cel", "37"),
        ("7", "[pH]", "mol/L", "1e-7"),
        ("1e-7", "mol/L", "[pH]", "7"),
        ("20", "dB[W]", "W", "100"),
        ("8", "bit_s", "1", "256"),
        ("180", "deg", "[pi].rad", "1"),
        ("5.4", "mg", "g", "0.0054"),
        ("95", "mg/dL", "g/L", "0.95"),
        ("120", "mm[Hg]", "kPa", "15.99864"),
        ("1", "[lb_av]", "kg", "0.45359237"),
        ("50", "%", "1", "0.5"),
        ("2", "[IU]/L", "[iU]/mL", "0.002"),
        ("1", "mol", "10*23", "6.02214076"),
        ("6", "{beats}/min", "/s", "0.1"),
    ],
)
def test_conversions(value: str, source: str, target: str, expected: str) -> None:
    got = ucum.convert(Decimal(value), source, target)
    assert Context(prec=30).plus(got) == Decimal(expected)


@pytest.mark.parametrize(
    ("source", "target"),
    [("mmol/L", "mg/dL"), ("mol", "g"), ("[iU]", "[arb'U]"), ("[iU]", "1"), ("m", "s"), ("K", "1")],
)
def test_what_does_not_measure_the_same_is_refused(source: str, target: str) -> None:
    assert not ucum.commensurable(source, target)
    with pytest.raises(ucum.UcumError, match="do not measure the same"):
        ucum.convert(Decimal(1), source, target)


@pytest.mark.parametrize(
    "unit",
    [
        "",
        "/",
        "m//s",
        "m.",
        ".m",
        "(m",
        "m)",
        "()",
        "m{",
        "m{}}",
        "m {a}",
        "кг",
        "mg dL",
        "m1000000000",
        "0",
        "m" * 300,
        "(" * 50 + "m" + ")" * 50,
        "[",
        "m\n",
        "k%",
    ],
)
def test_refused(unit: str) -> None:
    assert not ucum.is_valid(unit)
    with pytest.raises(ucum.UcumError):
        ucum.canonical(Decimal(1), unit)


def test_out_of_scale_is_an_error() -> None:
    with pytest.raises(ucum.UcumError):
        ucum.convert(Decimal(-1), "mol/L", "[pH]")
    with pytest.raises(ucum.UcumError):
        ucum.canonical(Decimal("1e9"), "[pH]")


def test_canonical_units() -> None:
    assert ucum.canonical(Decimal("1"), "mg/dL") == (Decimal(10), "g.m-3")
    assert ucum.canonical(Decimal("1"), "{tbl}") == (Decimal(1), "1")
    assert ucum.canonical(Decimal("3"), "kg.m/s2")[1] == "g.m.s-2"
    assert ucum.canonical(Decimal("1"), "k[iU]/L") == (Decimal(1_000_000), "[iU].m-3")


def test_every_unit_of_the_table_parses() -> None:
    for code in ucum._UNITS:
        ucum.parse(code)


@pytest.mark.parametrize("value", ["1e999999999", "1e-999999999", "NaN", "Infinity"])
def test_absurd_values_are_refused_at_once(value: str) -> None:
    with pytest.raises(ucum.UcumError):
        ucum.canonical(Decimal(value), "mg")


@pytest.mark.parametrize("unit", ["Cel.m", "Cel2", "K/Cel", "/Cel", "Cel.Cel", "[pH]/L"])
def test_products_of_special_units_are_well_formed_and_mean_nothing(unit: str) -> None:
    assert ucum.is_valid(unit)
    with pytest.raises(ucum.UcumError, match="non-ratio"):
        ucum.canonical(Decimal(1), unit)


def test_numbers_scale_special_units() -> None:
    assert ucum.convert(Decimal("3.7"), "10.Cel", "K") == Decimal("310.15")
    assert ucum.convert(Decimal("370"), "Cel/10", "K") == Decimal("310.15")
    assert ucum.convert(Decimal("310.15"), "K", "Cel.10") == Decimal("3.7")


def test_the_committed_table_is_the_compiled_essence(shared: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "compile_ucum.py"
    compile_essence = runpy.run_path(str(script))["compile_essence"]
    essence = (shared / "conformance" / "ucum" / "ucum-essence.xml").read_bytes()
    assert compile_essence(essence) == ucum._TABLE
