"""TLS of the server itself: 1.2 and 1.3, with the certificate that lies in files.

A renewed certificate is used for the next connection, without a restart. What cannot be loaded
leaves the one in use as it is.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import structlog

from fhir_server.config import Settings, SettingsError

log = structlog.get_logger("vehr.tls")

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all sound. Forward secrecy and AEAD alone (RFC 9325)."""


class Certificate:
    """``key`` None: it lies in the file of the certificate."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self.context.set_ciphers(CIPHERS)
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._stamp = self._stamps()
            self._load(self.context)
        except (OSError, ValueError) as error:
            raise SettingsError(f"VEHR_TLS_CERT, VEHR_TLS_KEY: {_why(error)}") from None

    def renew(self) -> bool:
        """Load the files again if they have changed. True if they were."""
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except (OSError, ValueError) as error:
            log.warning("the renewed certificate cannot be used", error=_why(error))
            return False
        log.info("a renewed certificate is in use")
        return True

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._cert, self._key, _no_passphrase)

    def _stamps(self) -> tuple[float, ...]:
        return tuple(path.stat().st_mtime_ns for path in (self._cert, self._key) if path)


def certificate(settings: Settings) -> Certificate | None:
    """None if the server speaks plain HTTP. SettingsError for what does not fit together."""
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise SettingsError("VEHR_TLS_KEY needs VEHR_TLS_CERT")
        return None
    if not settings.base_url.startswith("https:"):
        raise SettingsError("VEHR_BASE_URL must be https: the server speaks TLS")
    return Certificate(settings.tls_cert, settings.tls_key)


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted; it has to lie there in the clear, mode 0600")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate chain with its key: {error.reason or 'unreadable'}"
    return str(error.strerror if isinstance(error, OSError) else error)
