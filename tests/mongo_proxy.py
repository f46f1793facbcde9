"""A TCP proxy that cuts connections to a MongoDB at chosen commands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal


@dataclass
class Cut:
    """Ends the connection ``before`` a command reaches the server, or ``after`` it has
    answered and before the client hears of it; ``times`` in all."""

    command: bytes
    when: Literal["before", "after"]
    times: int = 1

    def strikes(self, message: bytes) -> bool:
        # OP_MSG: 16 bytes of header, 4 of flags, 1 of section kind, 4 of length, the type of the
        # first element, and its name, which is the command.
        if not self.times or not message[26:].startswith(self.command + b"\0"):
            return False
        self.times -= 1
        return True


class Proxy:
    """Between a client on this loop and the server at ``host:port``."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.cut: Cut | None = None
        self.struck = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._address)
        except OSError:
            writer.close()
            return
        try:
            while True:
                message = await _message(reader)
                cut = self.cut if self.cut is not None and self.cut.strikes(message) else None
                self.struck += cut is not None
                if cut is not None and cut.when == "before":
                    return
                up_writer.write(message)
                await up_writer.drain()
                while True:
                    answer = await _message(up_reader)
                    if cut is not None:
                        return
                    writer.write(answer)
                    await writer.drain()
                    if not _more_to_come(answer):
                        break
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            up_writer.close()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One message of the wire protocol: its length comes first."""
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "little") - 4)


def _more_to_come(message: bytes) -> bool:
    """Whether an OP_MSG is followed by another (streamed heartbeats)."""
    opcode = int.from_bytes(message[12:16], "little")
    return opcode == 2013 and bool(int.from_bytes(message[16:20], "little") & 2)
