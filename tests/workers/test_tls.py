"""A14 and transport: TLS of the server itself, on a real socket."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fhir_server.config import Settings, SettingsError
from fhir_server.workers.tls import Certificate, certificate

ROOT = Path(__file__).parents[2]


def pair(folder: Path, name: str = "ehr") -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return cert, secret


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server that speaks TLS, and the folder of its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = pair(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--data", str(folder / "data")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEHR_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fhir_server", "serve", "--port", str(port), *options],
        cwd=ROOT,
        env=kept | {"VEHR_HEAD_SECONDS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(300):
            try:
                with socket.create_connection(("127.0.0.1", port)):
                    break
            except OSError:
                time.sleep(0.1)
            assert process.poll() is None
        yield port, folder
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.mark.slow
def test_it_serves_https_with_hsts(place: tuple[int, Path]) -> None:
    port, folder = place
    root = f"https://127.0.0.1:{port}"
    with httpx.Client(verify=trusting(folder / "cert.pem")) as client:
        answer = client.get(f"{root}/fhir/.well-known/smart-configuration")
        assert answer.json()["token_endpoint"] == f"{root}/auth/token"
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        login = client.get(f"{root}/auth", follow_redirects=True)
        assert login.status_code == 200 and "; Secure" in login.headers["set-cookie"]
        assert login.headers["set-cookie"].startswith("__Host-vehr-form=")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/health")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "works"),
    [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)],
)
def test_a14_old_versions_are_refused(place: tuple[int, Path], version: str, works: bool) -> None:
    port, folder = place
    context = trusting(folder / "cert.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = context.minimum_version = ssl.TLSVersion[version]

    def shaken() -> str | None:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            return secured.version()

    if works:
        assert shaken() == version.replace("_", ".")
    else:
        with pytest.raises((ssl.SSLError, OSError)):
            shaken()


@pytest.mark.slow
def test_who_does_not_shake_hands_is_closed(place: tuple[int, Path]) -> None:
    """R13: as who sends no headers."""
    with socket.create_connection(("127.0.0.1", place[0])) as silent:
        silent.settimeout(10)
        try:
            assert silent.recv(1) == b""
        except ConnectionResetError:
            return


@pytest.mark.slow
def test_a_renewed_certificate_is_used_without_a_restart(place: tuple[int, Path]) -> None:
    port, folder = place
    pair(folder, "renewed")
    for _ in range(600):
        seen = ssl.get_server_certificate(("127.0.0.1", port))
        found = x509.load_pem_x509_certificate(seen.encode())
        if found.subject.rfc4514_string() == "CN=renewed":
            return
        time.sleep(0.1)
    raise AssertionError("the old certificate is still in use")


def test_settings_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    cert, key = pair(tmp_path)
    secure = replace(Settings(), base_url="https://ehr.example")
    assert certificate(secure) is None
    assert certificate(replace(secure, tls_cert=cert, tls_key=key)) is not None
    for wrong in (
        {"tls_key": key},
        {"tls_cert": cert, "tls_key": key, "base_url": "http://ehr.example"},
        {"tls_cert": cert},
        {"tls_cert": tmp_path / "none.pem", "tls_key": key},
        {"tls_cert": key, "tls_key": key},
    ):
        with pytest.raises(SettingsError, match="VEHR_"):
            certificate(replace(secure, **wrong))


def test_a_broken_renewal_leaves_the_certificate_as_it_is(tmp_path: Path) -> None:
    cert, key = pair(tmp_path)
    made = Certificate(cert, key)
    assert made.renew() is False
    cert.write_text("broken")
    assert made.renew() is False
    pair(tmp_path, "again")
    assert made.renew() is True and made.renew() is False
