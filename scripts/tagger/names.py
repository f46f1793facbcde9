"""Names of people by language, role and gender, from the packages that README.md lists."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import faker.providers.person as person

LATIN_ENDS = "\u0250"


def of(locale: str, beginning: str) -> list[str]:
    """The names of Faker's provider of a locale whose lists begin with ``first_names`` etc."""
    provider = importlib.import_module(f"{person.__name__}.{locale}").Provider
    lists = [getattr(provider, name) for name in dir(provider) if name.startswith(beginning)]
    return [n for v in lists if isinstance(v, list | tuple | dict) for n in v if isinstance(n, str)]


def latin() -> Iterator[tuple[list[str], list[str]]]:
    """Given names and surnames of every locale that writes them in Latin letters."""
    for module in pkgutil.iter_modules(person.__path__):
        given = [n for n in of(module.name, "first_names") if n[0] < LATIN_ENDS]
        family = [n for n in of(module.name, "last_names") if n[0] < LATIN_ENDS]
        if given and family:
            yield given, family


def census(folder: Path, which: str) -> list[str]:
    """``all.last``, ``male.first``, ``female.first`` of the package ``names``."""
    lines = (folder / f"dist.{which}").read_text().splitlines()
    return [line.split()[0].capitalize() for line in lines]


def natasha(folder: Path, which: str) -> list[str]:
    """``first`` or ``last`` of natasha's ``data/dict``."""
    lines = (folder / f"{which}.txt").read_text("utf-8").splitlines()
    return [line.partition("#")[0].strip().capitalize() for line in lines]
