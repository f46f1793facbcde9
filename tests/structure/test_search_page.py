"""The page on search lists the modifiers that there are."""

from __future__ import annotations

from pathlib import Path

from fhir_server.search.lineage import lineages
from fhir_server.search.parameters import KINDS

PAGE = Path(__file__).parents[2] / "ig" / "pagecontent" / "search.md"
WITHOUT_MISSING = ("composite", "special")


def test_the_table_of_modifiers_is_that_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.split("<!-- modifiers -->")[1].split("<!-- /modifiers -->")[0]
    rows = ["| type | modifiers |", "|---|---|"]
    for name, kind in sorted(KINDS.items()):
        known = () if name in WITHOUT_MISSING else ("missing", *kind.modifiers)
        rows.append(f"| {name} | {' '.join(f'`:{m}`' for m in known) or 'none'} |")
    assert table.strip() == "\n".join(rows)
    assert ", ".join(sorted(lineages())) in page.replace("\n  ", " ")
