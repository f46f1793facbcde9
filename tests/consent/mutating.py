"""Mutants of the code that hides: another text of a module takes the place of its functions."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mutated(module: types.ModuleType, old: str, new: str) -> Iterator[None]:
    """Within it the module's functions do what they do with ``new`` in the place of ``old``.

    The functions stay the same objects, so that all who have imported them are affected.
    """
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{module.__name__} has {source.count(old)} times {old!r}"
    mutant = types.ModuleType("mutant")
    sys.modules["mutant"] = mutant
    exec(compile(source.replace(old, new), str(module.__file__), "exec"), mutant.__dict__)
    del sys.modules["mutant"]
    before = []
    for name, function in functions(module):
        other = dict(functions(mutant))[name]
        before.append((function, function.__code__))
        function.__code__ = other.__code__
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def functions(module: types.ModuleType) -> list[tuple[str, types.FunctionType]]:
    """Those that the module defines, and the methods of its classes."""
    found = []
    for name, value in vars(module).items():
        members = [(name, value)]
        if isinstance(value, type) and value.__module__ == module.__name__:
            members = [(f"{name}.{n}", v) for n, v in vars(value).items()]
        for path, one in members:
            body = one.fget if isinstance(one, property) else one
            if isinstance(body, types.FunctionType) and body.__module__ == module.__name__:
                found.append((path, body))
    return found
