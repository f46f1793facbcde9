"""An object store that is gone, lies or refuses: 503, and what was acknowledged stays."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("botocore")

from botocore.config import Config
from botocore.exceptions import EndpointConnectionError

from fhir_server.config_values import Bucket
from fhir_server.model.problem import Unavailable
from fhir_server.store import s3
from fhir_server.store.breaker import Breaker
from fhir_server.store.s3 import PART, S3Blobs
from tests.s3 import Line, new_bucket
from tests.store.objects import DAY, always, keys, stream, whole


@pytest.fixture
def bucket() -> Bucket:
    return new_bucket()


Scenario = Callable[[S3Blobs, Line], Awaitable[None]]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can wait for."""
    limits = {"retries": {"total_max_attempts": 2, "mode": "standard"}, "read_timeout": 2}
    monkeypatch.setattr(s3, "LIMITS", s3.LIMITS.merge(Config(**limits)))


async def on_line(tmp_path: Path, scenario: Scenario, breaker: Breaker | None = None) -> None:
    line = Line(new_bucket())
    blobs = S3Blobs(await line.start(), tmp_path, breaker=breaker)
    try:
        await scenario(blobs, line)
    finally:
        await line.stop()


@pytest.mark.parametrize("after", [1000, PART // 2, PART + 5000, 2 * PART + PART // 2])
async def test_gone_in_the_middle_of_an_upload(tmp_path: Path, quick: None, after: int) -> None:
    content = os.urandom(3 * PART)

    async def scenario(blobs: S3Blobs, line: Line) -> None:
        line.cut_after = after
        with pytest.raises(Unavailable):
            await blobs.put(stream(content))
        line.down = False
        assert await blobs.names() == []
        blob = await blobs.put(stream(content))
        assert await whole(blobs, blob) == content
        await blobs.sweep(always, time.time() + DAY)
        assert await blobs.names() == [blob.sha256]

    await on_line(tmp_path, scenario)
    assert list(tmp_path.iterdir()) == []


async def test_a_lost_answer_is_looked_up(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload was completed, but nobody heard of it: what follows finds no such upload."""
    blobs = S3Blobs(bucket, tmp_path)
    complete = blobs._client.complete_multipart_upload

    def unheard(**given: Any) -> None:
        complete(**given)
        raise EndpointConnectionError(endpoint_url="x")

    monkeypatch.setattr(blobs._client, "complete_multipart_upload", unheard)
    blob = await blobs.put(stream(bytes(PART + 1)))
    assert await whole(blobs, blob) == bytes(PART + 1)


async def test_gone_in_the_middle_of_a_read(tmp_path: Path, quick: None) -> None:
    async def scenario(blobs: S3Blobs, line: Line) -> None:
        blob = await blobs.put(stream(bytes(3 * PART)))
        line.hang_up()
        line.down = True
        with pytest.raises(Unavailable):
            await blobs.read(blob)
        line.down = False
        assert await whole(blobs, blob) == bytes(3 * PART)

    await on_line(tmp_path, scenario)


async def test_a_store_that_is_silent_is_not_waited_for(tmp_path: Path, quick: None) -> None:
    async def scenario(blobs: S3Blobs, line: Line) -> None:
        line.silent = True
        with pytest.raises(Unavailable):
            await asyncio.wait_for(blobs.put(stream(b"content")), 60)

    await on_line(tmp_path, scenario)


async def test_a_dropped_connection_is_tried_again(tmp_path: Path) -> None:
    async def scenario(blobs: S3Blobs, line: Line) -> None:
        blob = await blobs.put(stream(b"content"))
        line.hang_up()
        assert await whole(blobs, blob) == b"content"

    await on_line(tmp_path, scenario)


async def test_a_store_that_fails_is_left_alone_for_a_while(tmp_path: Path, quick: None) -> None:
    now = [0.0]
    breaker = Breaker(2, 10.0, lambda: now[0])

    async def scenario(blobs: S3Blobs, line: Line) -> None:
        line.down = True
        for _ in range(2):
            with pytest.raises(Unavailable):
                await blobs.names()
        calls = line.calls
        with pytest.raises(Unavailable) as raised:
            await blobs.names()
        assert line.calls == calls and raised.value.headers == {"Retry-After": "10"}
        now[0] += 10
        line.down = False
        assert await blobs.names() == []

    await on_line(tmp_path, scenario, breaker)


def test_the_breaker() -> None:
    now = [0.0]
    breaker = Breaker(2, 10.0, lambda: now[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows() and breaker.wait == 10.0
    now[0] = 10.0
    assert breaker.allows() and not breaker.allows(), "one call at a time tries"
    now[0] = 20.0
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()


def test_a_missing_bucket_or_credentials_are_503(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Bucket("no-such-bucket", endpoint=bucket.endpoint)
    with pytest.raises(Unavailable):
        asyncio.run(S3Blobs(other, tmp_path).put(stream(b"x")))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Unavailable):
        asyncio.run(S3Blobs(bucket, tmp_path).put(stream(b"x")))


REFUSAL = "<?xml version='1.0'?><Error><Code>{}</Code><Message>x</Message></Error>"
STRANGERS = {
    "a page of a proxy": (200, "<html>Welcome<br></html>"),
    "another document": (200, "<?xml version='1.0'?><Nothing/>"),
    "expired": (400, REFUSAL.format("ExpiredToken")),
    "wrong secret": (403, REFUSAL.format("SignatureDoesNotMatch")),
    "wrong clock": (403, REFUSAL.format("RequestTimeTooSkewed")),
    "a page that refuses": (403, "<html>Forbidden</html>"),
}


@pytest.mark.parametrize(("status", "text"), STRANGERS.values(), ids=STRANGERS)
def test_whatever_is_answered_is_503(
    bucket: Bucket, tmp_path: Path, status: int, text: str
) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        blobs = S3Blobs(
            replace(bucket, endpoint=f"http://127.0.0.1:{server.server_port}"), tmp_path
        )
        with pytest.raises(Unavailable) as caught:
            asyncio.run(blobs.put(stream(b"x" * (PART + 1))))
        assert int(caught.value.headers["Retry-After"]) > 0
        if "Nothing" not in text:
            with pytest.raises(Unavailable):
                asyncio.run(blobs.names())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_credentials_from_a_file(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = abc\naws_secret_access_key = def\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    asyncio.run(S3Blobs(bucket, tmp_path / "spool").put(stream(b"x")))
    assert len(keys(bucket)) == 1
