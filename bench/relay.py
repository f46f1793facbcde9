"""Between this server and a MongoDB that is slow: a read that was answered before is answered
from memory, so that only our own process is measured.

    python -m bench.relay HOST PORT [--wait MILLISECONDS]

prints its own port. Everything that was remembered is forgotten with every write. The bytes are
the database's own, over a socket and from another process, as they would come from it. ``wait``
lets our process sleep so long for each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from bson import decode, encode

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

HEADER: Final = 21
"""Bytes of a message before its document: OP_MSG, one section."""
READS: Final = frozenset({"find", "aggregate"})
WRITES: Final = frozenset({"insert", "update", "delete", "findAndModify", "commitTransaction"})
MOMENT: Final = ("lsid", "$clusterTime")
"""What differs from one asking of the same to the next."""


class Relay:
    """``wait``: seconds before each answer that is remembered."""

    def __init__(self, host: str, port: int, wait: float) -> None:
        self._address = host, port
        self._wait = wait
        self._known: dict[bytes, bytes] = {}

    async def serve(self, reader: Reader, writer: Writer) -> None:
        """One connection of a client."""
        from_server, to_server = await asyncio.open_connection(*self._address)
        try:
            while True:
                asked = await message(reader)
                key = self._key(asked)
                known = self._known.get(key) if key else None
                if known is not None:
                    await asyncio.sleep(self._wait)
                    writer.write(known[:8] + asked[4:8] + known[12:])
                else:
                    to_server.write(asked)
                    answer = await message(from_server)
                    while more_to_come(answer):
                        writer.write(answer)
                        answer = await message(from_server)
                    writer.write(answer)
                    if key:
                        self._known[key] = answer
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            to_server.close()

    def _key(self, asked: bytes) -> bytes:
        """What an answer is remembered by; nothing: it is not."""
        name = asked[26 : asked.index(b"\0", 26)].decode()
        if name in WRITES:
            self._known.clear()
        if name not in READS:
            return b""
        command = decode(asked[HEADER:])
        if "autocommit" in command:
            return b""
        return encode({field: command[field] for field in command if field not in MOMENT})


async def message(reader: Reader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "little") - 4)


def more_to_come(answer: bytes) -> bool:
    """Whether another message follows without being asked for (streamed heartbeats)."""
    opcode = int.from_bytes(answer[12:16], "little")
    return opcode == 2013 and bool(int.from_bytes(answer[16:20], "little") & 2)


async def run(relay: Relay) -> None:
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def relayed(url: str, wait: float) -> Iterator[str]:
    """The URL of the same database behind a relay of a process of its own."""
    parts = urlsplit(url)
    command = [sys.executable, "-m", "bench.relay", str(parts.hostname), str(parts.port)]
    relay = subprocess.Popen([*command, "--wait", str(wait)], stdout=subprocess.PIPE)
    try:
        port = int((relay.stdout or sys.stdin.buffer).readline())
        yield f"mongodb://127.0.0.1:{port}{parts.path}?directConnection=true"
    finally:
        relay.kill()
        relay.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.relay", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--wait", type=float, default=0.0, help="milliseconds")
    given = parser.parse_args()
    asyncio.run(run(Relay(given.host, given.port, given.wait / 1000)))


if __name__ == "__main__":
    main()
