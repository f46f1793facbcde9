"""Who a store is to MongoDB, and how safe the way there is: passwords, options, TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from fhir_server.config import Settings
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from fhir_server.store.base import ChangeSet
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.opening import open_store
from fhir_server.store.mongo.sessions import Plain, all_found
from fhir_server.store.opening import bank_settings
from tests.mongodb import start
from tests.store.building import prepared_change, values


async def served(url: str) -> int:
    """How many resources are found of one that is written."""
    store = await open_store(url)
    try:
        await store.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
        return len((await store.run(Search((Scan("A"),)))).matches)
    finally:
        await store.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a server that knows the user ``ann``, password ``p@ss,=wörd``."""
    folder = tmp_path_factory.mktemp("auth")
    process, port = start(folder)

    async def prepare() -> None:
        client: AsyncMongoClient[Any] = AsyncMongoClient(f"mongodb://127.0.0.1:{port}/")
        await client.admin.command(
            "createUser", "ann", pwd="p@ss,=wörd", roles=[{"role": "root", "db": "admin"}]
        )
        await client.own.command(
            "createUser",
            "eve",
            pwd="word",
            roles=[{"role": "readWrite", "db": name} for name in ("own", "own_research")],
        )
        await client.close()

    asyncio.run(prepare())
    process.terminate()
    process.wait()
    process, port = start(folder, 0, "--auth")
    yield f"127.0.0.1:{port}"
    process.kill()
    process.wait()


def test_a_password(guarded: str) -> None:
    url = f"mongodb://ann:p%40ss%2C%3Dw%C3%B6rd@{guarded}/vehr?authSource=admin"
    assert asyncio.run(served(url)) == 1


def test_the_data_bank_has_the_user_of_the_record(guarded: str) -> None:
    """Who is known to the database that the URL names, and to no other."""
    record = Settings(store=f"mongodb://eve:word@{guarded}/own")
    assert asyncio.run(served(record.store)) == 1
    assert asyncio.run(served(bank_settings(record).store)) == 1


@pytest.mark.parametrize("who", ["", "ann:wrong@", "bob:p%40ss%2C%3Dw%C3%B6rd@"])
def test_another_password_is_refused_in_one_line(guarded: str, who: str) -> None:
    with pytest.raises(Unavailable) as problem:
        asyncio.run(served(f"mongodb://{who}{guarded}/vehr?authSource=admin"))
    assert "\n" not in str(problem.value) and "p@ss" not in str(problem.value)


def test_the_connection_itself_says_who_it_is(guarded: str) -> None:
    """Not only that of the driver."""

    async def scenario() -> None:
        client: AsyncMongoClient[Any] = AsyncMongoClient(f"mongodb://{guarded}/")
        for who in ("ann:wrong@", "ann:p%40ss%2C%3Dw%C3%B6rd@"):
            url = f"mongodb://{who}{guarded}/vehr?authSource=admin"
            lines = Lines.of(client, url, "vehr")
            command = {"find": "x", "filter": {}}
            if "wrong" in who:
                with pytest.raises(OperationFailure):
                    await all_found(Plain(lines), command)
            else:
                assert await all_found(Plain(lines), command) == []
            await lines.close()
        await client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "option",
    ["authMechanism=GSSAPI", "authMechanism=MONGODB-AWS", "compressors=zlib", "loadBalanced=true"],
)
def test_what_is_not_known_is_refused(option: str) -> None:
    async def scenario() -> None:
        client: AsyncMongoClient[Any] = AsyncMongoClient("mongodb://127.0.0.1:1/")
        try:
            Lines.of(client, f"mongodb://user%40REALM:x@127.0.0.1:1/vehr?{option}", "vehr")
        finally:
            await client.close()

    with pytest.raises(Unavailable, match="not supported"):
        asyncio.run(scenario())


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


def test_tls(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "server")
    other, _ = certificate(tmp_path, "other")
    process, port = start(
        tmp_path / "db", 0, "--tls-cert-file", str(pem), "--tls-key-file", str(key)
    )
    try:
        url = f"mongodb://127.0.0.1:{port}/vehr?tls=true&tlsCAFile="
        assert asyncio.run(served(f"{url}{pem}")) == 1

        async def strange() -> None:
            client: AsyncMongoClient[Any] = AsyncMongoClient(f"{url}{pem}")
            lines = Lines.of(client, f"{url}{other}", "vehr")
            try:
                await all_found(Plain(lines), {"find": "x", "filter": {}})
            finally:
                await client.close()

        with pytest.raises(AutoReconnect, match="certificate"):
            asyncio.run(strange())
    finally:
        process.kill()
        process.wait()
