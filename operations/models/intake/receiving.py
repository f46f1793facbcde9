"""What arrives is read by a process of its own (``reading.py``); here is what comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Final

from fhir_server.model.problem import Problem, TooLarge, Unavailable, Unprocessable

from ..processes import environment
from .archive import LARGEST, NAMES

MEMORY: Final = 1536
"""MiB of address space: the archive, its contents and the interpreter."""
SECONDS: Final = 20
"""Of processor time; and, three times that, until the answer."""
_LINE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """Limits of the process."""

    memory: int = MEMORY
    seconds: int = SECONDS


async def receive(archive: bytes, limits: Reading = Reading()) -> dict[str, bytes]:
    """The files of a package by name. Raises Unprocessable with the reason of a refusal, and for
    an archive that its process did not survive; TooLarge; Unavailable if there is no process, or
    no time."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "operations.models.intake.reading",
            str(limits.memory),
            str(limits.seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable("a process to read the package could not be started") from error
    try:
        async with asyncio.timeout(limits.seconds * 3):
            output, _ = await process.communicate(archive)
    except TimeoutError:
        raise Unavailable("the package could not be read in time") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _files(output)


def refused(reason: str, *, large: bool = False) -> Problem:
    text = f"the model package is refused: {reason}"
    return TooLarge(text) if large else Unprocessable(text, code="business-rule")


def _files(output: bytes) -> dict[str, bytes]:
    """Takes nothing for granted: the process may have been taken over by what it read."""
    line, ended, rest = output.partition(b"\n")
    if not ended or len(line) > _LINE or len(rest) > LARGEST:
        raise refused("reading it goes beyond the limits of memory and time")
    try:
        answer = json.loads(line)
        if "error" in answer:
            raise refused(str(answer["error"])[:500], large=answer.get("large") is True)
        files, at = {}, 0
        for name, size in answer["files"]:
            if name not in NAMES or size < 0:
                raise ValueError
            files[name] = rest[at : at + size]
            at += size
        if at != len(rest):
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise refused("reading it gave no sensible answer") from None
    return files
