"""What is streamed to a slow reader while a patient decides otherwise (L23, L30): on real sockets.

What is on its way already (in the buffers of both ends) cannot be called back; everything is made
large enough to be told from that.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.consent.bricks import Json, observation, to

MANY = 1500
NOTE = "n" * 10_000
UNDER_WAY = 6_000_000
"""Bytes that may lie in the buffers of a connection."""
LEFT = 1.0
"""Seconds after which a refusal holds for streams."""
FIRST = 200_000
"""Bytes that are read before the patient decides."""
VIEW: Json = {
    "resourceType": "ViewDefinition",
    "resource": "Observation",
    "select": [
        {
            "column": [
                {"name": "whose", "path": "subject.reference"},
                {"name": "note", "path": "note.text.first()"},
            ]
        }
    ],
}
RUN: Json = {
    "resourceType": "Parameters",
    "parameter": [{"name": "viewResource", "resource": VIEW}],
}
CONTENT = b"P1" * 10_000_000


def notes() -> Iterator[Json]:
    """Bundles of the observations of P1, and of a few older ones of P2."""
    made = [("o", "p1", "02", MANY), ("q", "p2", "01", 20)]
    for prefix, patient, day, many in made:
        for start in range(0, many, 100):
            entries = []
            for number in range(start, min(start + 100, many)):
                more = {"note": [{"text": NOTE}], "subject": to(f"Patient/{patient}")}
                one = observation(f"{prefix}{number}", "2093-3", number, day, **more)
                place = f"Observation/{one['id']}"
                entries.append({"resource": one, "request": {"method": "PUT", "url": place}})
            yield {"resourceType": "Bundle", "type": "transaction", "entry": entries}


class Slow:
    """An answer that is read when one likes, over a connection with a small buffer."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def read(self, least: int) -> bytes:
        """At least so many bytes, or what there is until the end."""
        found = b""
        while len(found) < least and (more := self._line.recv(16_384)):
            found += more
        return found

    def rest(self) -> bytes:
        """Until the end, or until it is broken off."""
        found = []
        try:
            while more := self._line.recv(262_144):
                found.append(more)
        except ConnectionResetError:
            pass
        return b"".join(found)


@contextmanager
def slowly(url: str, token: str, body: Json | None = None, **headers: str) -> Iterator[Slow]:
    place = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {place.path}?{place.query} HTTP/1.1"]
    told = {"host": place.netloc, "authorization": f"Bearer {token}", "connection": "close"}
    told |= headers | {"content-length": str(len(content))}
    if body is not None:
        told["content-type"] = "application/fhir+json"
    lines += [f"{name}: {value}" for name, value in told.items()]
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        line.settimeout(120)
        line.connect((place.hostname, place.port))
        line.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        yield Slow(line)


def interrupted(answer: Slow, act: Callable[[], None]) -> tuple[bytes, bytes]:
    """What came first, and what came when ``act`` had been answered for a second."""
    first = answer.read(FIRST)
    assert b" 200 OK" in first[:20], first[:300]
    act()
    time.sleep(LEFT)
    return first, answer.rest()
