"""The settings as tables, for the documentation."""

from __future__ import annotations

from dataclasses import fields

from fhir_server.config import Settings


def settings_rows() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting."""
    rows = []
    for row in fields(Settings):
        default = ",".join(row.default) if isinstance(row.default, tuple) else row.default
        shown = "" if default is None else str(default)
        rows.append((row.metadata["env"], shown, row.metadata["doc"]))
    return rows


def settings_table() -> str:
    """The settings as a Markdown table, for the documentation."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for env, default, doc in settings_rows():
        lines.append(f"| `{env}` | {f'`{default}`' if default else ''} | {doc} |")
    return "\n".join(lines) + "\n"
