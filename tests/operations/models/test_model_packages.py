"""A package without a card, without golden vectors or that fails them does not load."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_server.model.problem import NotFound, Unavailable
from operations.models.package import PackageError, load
from operations.models.publishing import device
from operations.models.registry import SHIPPED, Registry
from operations.models.runtime import Runtime

TRAINED = (
    "atrial_fibrillation_5y",
    "breast_cancer_recurrence_5y",
    "diabetes_5y",
    "heart_failure_5y",
    "stroke_5y",
)
"""By scripts that fetch their data, with a report."""
STOPPED = {"atrial_fibrillation_5y"}
"""Those that have not passed their gate, and answer only who asks for the version."""
BUILT = {
    "build_early_warning.py": ("news2_trend",),
    "build_models.py": ("score2", "prevent", "ckd_epi_2021"),
    "build_scores.py": (
        "kfre_4",
        "framingham",
        "framingham_bmi",
        "meld_3",
        "fib_4",
        "news2",
        "qsofa",
        "cha2ds2_vasc",
        "has_bled",
        "findrisc",
        "charlson",
    ),
}
PUBLIC = {
    "SCORE2": "score2",
    "SCORE2-OP": "score2",
    "PREVENT-base": "prevent",
    "CKD-EPI-2021-creatinine": "ckd_epi_2021",
    "KFRE-4": "kfre_4",
    "Framingham-general-CVD-2008": "framingham",
    "Framingham-general-CVD-2008-BMI": "framingham_bmi",
    "MELD-3.0": "meld_3",
    "FIB-4": "fib_4",
    "NEWS2": "news2",
    "qSOFA": "qsofa",
    "CHA2DS2-VASc": "cha2ds2_vasc",
    "HAS-BLED": "has_bled",
    "FINDRISC": "findrisc",
    "Charlson-1987": "charlson",
    "Charlson-age-1994": "charlson",
}
NOT_SHIPPED = {"ACC-AHA-PCE-2013"}
"""It needs race as an input; PREVENT of the same bodies replaces it."""
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "ckd_epi_2021", tmp_path / "models" / "kidney"))


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_shipped_models_load_and_pass_their_vectors() -> None:
    async def main() -> Registry:
        runtime = Runtime()
        registry = Registry.of(runtime)
        await registry.verify()
        await runtime.close()
        return registry

    registry = asyncio.run(main())
    assert registry.refused == {}
    folders = [*TRAINED, *(name for names in BUILT.values() for name in names)]
    leading = [name for name in folders if name not in STOPPED]
    assert registry.names() == sorted(name.replace("_", "-") for name in leading)
    assert all(version.verified for version in registry.versions.values())


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_model_is_that_of_its_report(name: str) -> None:
    """What was frozen is what is shipped, by the specification beside it; its gate passed, or said
    not to be, and the verdict on the card."""
    folder = SHIPPED / name
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    package = load(folder)
    spec = (folder / "train.toml").read_bytes()
    assert report["frozen"] == package.sha256
    assert report["gate"]["passed"] is (name not in STOPPED)
    assert report["specification"] == hashlib.sha256(spec).hexdigest()
    rival = report["baseline"]
    equal = rival["low"] > -rival["margin"]
    assert equal is rival["not_inferior"] is (name not in STOPPED)
    card = {metric.name: metric.value for metric in package.card.metric}
    verdict = next(value for key, value in card.items() if "rows of the baseline" in key)
    assert verdict.endswith(": not inferior") is equal
    assert card["gate"] == ("passed" if equal else "not passed")
    assert card["auroc"].startswith(str(report["test"]["auroc"]["value"]))
    assert package.reference is not None and package.features.indication
    rows = sum(package.reference.inputs["age"].counts)
    assert rows == report["rows"]["train"]["rows"]


def test_the_shipped_vectors_include_the_public_ones(shared: Path) -> None:
    known = json.loads((shared / "ai" / "risk_vectors.json").read_text(encoding="utf-8"))
    assert {v["model"] for v in known["vectors"]} == PUBLIC.keys() | NOT_SHIPPED
    for model, folder in PUBLIC.items():
        public = [v for v in known["vectors"] if v["model"] == model]
        sources = [g.source for g in load(SHIPPED / folder).golden]
        for source in {v["source"] for v in public}:
            assert sources.count(source) >= sum(v["source"] == source for v in public), model


@pytest.mark.parametrize("script", BUILT)
def test_the_graphs_are_those_of_the_build_script(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    build = importlib.import_module(script.removesuffix(".py"))
    data = json.loads((ROOT / "scripts" / "risk_coefficients.json").read_text(encoding="utf-8"))
    for name in BUILT[script]:
        built = getattr(build, name)(data).SerializeToString(deterministic=True)
        assert built == (SHIPPED / name / "model.onnx").read_bytes()


@pytest.mark.parametrize("part", ["model.onnx", "card.toml", "features.toml", "golden.json"])
def test_a_part_that_is_missing(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(PackageError, match=f"{part} is missing"):
        load(folder)


BROKEN: dict[str, tuple[str, Callable[[Path], None], str]] = {
    name: (part, lambda f, p=part, o=old, n=new: _replace(f / p, o, n), reason)
    for name, part, old, new, reason in [
        ("no limits", "card.toml", "limits = [", "limitz = [", "card.toml"),
        ("toml", "card.toml", 'name = "', 'name == "', "card.toml"),
        ("unknown key", "features.toml", "lookback", "look-back", "features.toml"),
        ("bad duration", "features.toml", '"P5Y"', '"five years"', "features.toml"),
        ("unknown output", "card.toml", 'output = "egfr"', 'output = "gfr"', "unknown output: gfr"),
        ("no vectors", "golden.json", "[\n", "[]\n#", "golden.json"),
        ("other inputs", "golden.json", '"creatinine"', '"crea"', "exactly the features"),
    ]
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_manifest_that_does_not_fit(folder: Path, case: str) -> None:
    _, spoil, reason = BROKEN[case]
    spoil(folder)
    with pytest.raises(PackageError, match=reason):
        load(folder)
    registry = Registry.of(Runtime(), [folder.parent])
    assert registry.versions == {} and list(registry.refused) == ["kidney"]


def test_failed_golden_vectors_withdraw_the_version(folder: Path) -> None:
    _replace(folder / "golden.json", "104.05", "105.05")

    async def main() -> None:
        runtime = Runtime()
        registry = Registry.of(runtime, [folder.parent])
        try:
            assert registry.names() == ["ckd-epi-2021"]
            with pytest.raises(Unavailable, match="golden vector"):
                await registry.champion("ckd-epi-2021")
            assert registry.names() == [] and "golden vector" in registry.refused["kidney"]
            with pytest.raises(NotFound):
                await registry.champion("ckd-epi-2021")
        finally:
            await runtime.close()

    asyncio.run(main())


def test_versions_side_by_side(folder: Path) -> None:
    newer = Path(shutil.copytree(folder, folder.parent / "newer"))
    _replace(newer / "card.toml", 'version = "1.0.0"', 'version = "1.10.0"')
    middle = Path(shutil.copytree(folder, folder.parent / "middle"))
    _replace(middle / "card.toml", 'version = "1.0.0"', 'version = "1.9.0"')

    async def main() -> None:
        runtime = Runtime()
        registry = Registry.of(runtime, [folder.parent])
        try:
            registry.add(middle)
            assert "immutable" in registry.refused["middle"]
            assert (await registry.champion("CKD-EPI")).id == "ckd-epi-2021-1.10.0"
            assert (await registry.champion("ckd-epi-2021|1.0.0")).id == "ckd-epi-2021-1.0.0"
            with pytest.raises(NotFound):
                await registry.champion("ckd-epi-2021|2.0.0")
        finally:
            await runtime.close()

    asyncio.run(main())


def test_the_device_names_the_version_and_its_limits() -> None:
    package = load(SHIPPED / "score2")
    resource = device(package)
    assert resource["id"] == "score2-1.0.0"
    assert resource["version"] == [{"value": "1.0.0"}]
    assert package.sha256 in resource["identifier"][0]["value"]
    assert any("Limit:" in note["text"] for note in resource["note"])


def test_the_device_tells_the_whole_card() -> None:
    """To users, who do not see the DocumentReference."""
    for folder in sorted(path.parent for path in SHIPPED.glob("*/card.toml")):
        card = load(folder).card
        told = "\n".join(note["text"] for note in device(load(folder))["note"])
        metrics = (text for one in card.metric for text in (one.name, one.value, one.source))
        whole = (card.intended_use, card.population, card.training_data, card.licence)
        for text in (*whole, *card.limits, *metrics, card.source.citation):
            assert text in told, folder.name
