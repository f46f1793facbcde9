"""The process that reads an archive: ``python -m operations.models.intake.reading MIB SECONDS``.

The archive comes on standard input. The answer is one line of JSON, ``{"error"}`` or
``{"files": [[name, size], …]}``, then the contents one after the other. It may use so much memory
and processor time, opens no further files, writes none and holds no credentials.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from operations.models.intake.archive import GRAPH, ArchiveError, ArchiveTooLarge, unpack
from operations.models.intake.graph import GraphError, judge
from operations.models.package import PackageError, of_parts


def main() -> None:
    megabytes, seconds = int(sys.argv[1]), int(sys.argv[2])
    limit(megabytes * 1024 * 1024, seconds)
    answer, contents = read(sys.stdin.buffer.read())
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    for content in contents:
        sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def limit(size: int, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def read(data: bytes) -> tuple[dict[str, object], list[bytes]]:
    """The answer and the contents; what is wrong with the package is its ``error``."""
    try:
        files = unpack(data)
        if GRAPH in files:
            judge(files[GRAPH])
        of_parts(files, Path())
    except (ArchiveError, GraphError, PackageError) as error:
        large = isinstance(error, ArchiveTooLarge)
        return {"error": str(error)[:500], "large": large}, []
    except MemoryError:
        return {"error": "the package needs too much memory to be read"}, []
    return {"files": [[name, len(files[name])] for name in files]}, list(files.values())


if __name__ == "__main__":
    main()
