"""TOML 1.0 of plain values, for the manifests of a candidate: https://toml.io/en/v1.0.0"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(data: Mapping[str, Any]) -> str:
    """Plain members first, then tables and arrays of tables; what is deeper stands inline."""
    lines = [f"{_key(k)} = {_value(v)}" for k, v in data.items() if not _tabled(v)]
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines += _table(_key(key), value)
        elif _tabled(value):
            for one in value:
                lines += ["", f"[[{_key(key)}]]", *_members(one)]
    return "\n".join(lines).strip("\n") + "\n"


def _tabled(value: Any) -> bool:
    rows = isinstance(value, list | tuple) and value and isinstance(value[0], Mapping)
    return isinstance(value, Mapping) or bool(rows)


def _table(path: str, table: Mapping[str, Any]) -> list[str]:
    """Of tables only: each under a heading of its own."""
    if table and all(isinstance(one, Mapping) for one in table.values()):
        return [line for k, v in table.items() for line in _table(f"{path}.{_key(k)}", v)]
    return ["", f"[{path}]", *_members(table)]


def _members(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return f"[{', '.join(_value(one) for one in value)}]"
