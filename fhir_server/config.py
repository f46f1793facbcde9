"""Every setting of the server, once: name, environment variable, type, default, meaning.

Settings come from the environment only. An unknown ``VEHR_`` variable or a value that does
not parse is a ``SettingsError`` with one clear line; the commands end with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from fhir_server.config_limits import LimitSettings
from fhir_server.config_values import (
    PREFIX,
    Bucket,
    as_bucket,
    as_count,
    as_events,
    as_minutes,
    as_models,
    as_names,
    as_networks,
    as_path,
    as_positive,
    as_profiles,
    as_store,
    as_text,
    as_token,
    as_url,
    as_zone,
    of,
    one_of,
)
from fhir_server.formats.json import Limits as JsonLimits

TESTS: Final = "VEHR_TEST_"
"""Begins variables of the test suite, which the server leaves alone."""


class SettingsError(ValueError):
    """A setting that cannot be used; its text is the one line that the user reads."""


@dataclass(frozen=True, slots=True)
class Settings(LimitSettings):
    """What the server is started with. Sizes are bytes unless the meaning says otherwise."""

    data: Path = field(
        default=Path("vehr-data"),
        metadata=of("DATA", as_path, "Data directory; created if it is absent."),
    )
    store: str = field(
        default="sqlite:",
        metadata=of(
            "STORE",
            as_store,
            "Store of the record: sqlite:, mongodb://HOST/NAME (a replica set or sharded cluster),"
            " or memory: (keeps nothing).",
        ),
    )
    blobs: Bucket | None = field(
        default=None,
        metadata=of(
            "BLOBS",
            as_bucket,
            "Where large contents lie: s3://BUCKET/PREFIX?endpoint=URL&region=NAME; credentials as"
            " AWS has them (AWS_ACCESS_KEY_ID, …, files); default: the data directory.",
        ),
    )
    erase_log: Path | None = field(
        default=None,
        metadata=of(
            "ERASE_LOG",
            as_path,
            "File that records what was erased, outside of the data directory, for restores; "
            "default: beside it, its name with .erased.ndjson.",
        ),
    )
    backup_key: Path | None = field(
        default=None,
        metadata=of(
            "BACKUP_KEY",
            as_path,
            "File with the key of backups, 64 hexadecimal digits; they are then encrypted.",
        ),
    )
    terminology: str = field(
        default="",
        metadata=of(
            "TERMINOLOGY",
            as_url,
            "FHIR base URL of a terminology server that is asked about what is not known here.",
        ),
    )
    search: str = field(
        default="",
        metadata=of("SEARCH", as_url, "URL of an Elasticsearch that answers _text and _content."),
    )
    search_secret: str = field(
        default="",
        metadata=of("SEARCH_SECRET", as_text, "Its API key (encoded), or USER:PASSWORD."),
    )
    search_secret_file: Path | None = field(
        default=None, metadata=of("SEARCH_SECRET_FILE", as_path, "File with the same.")
    )
    search_ca: Path | None = field(
        default=None,
        metadata=of("SEARCH_CA", as_path, "File with the certificates (PEM) that it is judged by."),
    )
    events: str = field(default="embedded:", metadata=of("EVENTS", as_events, "Event bus."))
    models: Path | None = field(
        default=None, metadata=of("MODELS", as_models, "Folder with further model packages.")
    )
    model_keys: Path | None = field(
        default=None,
        metadata=of(
            "MODEL_KEYS",
            as_path,
            "File with the public keys (Ed25519, PEM) of whom model packages are taken;"
            " unset: of anybody.",
        ),
    )
    auto_predict_seconds: int = field(
        default=0,
        metadata=of(
            "AUTO_PREDICT_SECONDS",
            as_count,
            "After so many seconds without a further change of what models read in a record, the"
            " patient's risks are brought up to date as drafts; 0: not by themselves.",
        ),
    )
    sensitivity: Path | None = field(
        default=None,
        metadata=of(
            "SENSITIVITY",
            as_path,
            "File (TOML) of further rules that label what is sensitive.",
        ),
    )
    unrecorded_consent: str = field(
        default="basic-normal",
        metadata=of(
            "UNRECORDED_CONSENT",
            one_of("basic-normal", "all-normal", "break-glass-only", "deny"),
            "What holds for patients who have recorded no consent (policies of IHE PCF): normal"
            " data for treatment, payment and operations; for all purposes; nothing.",
        ),
    )
    break_glass_minutes: int = field(
        default=60,
        metadata=of(
            "BREAK_GLASS_MINUTES",
            as_minutes,
            "How long somebody who breaks the glass sees the data of that patient; 0: nobody may.",
        ),
    )
    deid: Path | None = field(
        default=None,
        metadata=of(
            "DEID",
            as_path,
            "Folder of de-identification: further profiles (profiles/*.json) and the vault;"
            " default: deid in the data directory.",
        ),
    )
    deid_keys: Path | None = field(
        default=None,
        metadata=of(
            "DEID_KEYS",
            as_path,
            "File with the keys of projects and vault, outside of the data directory; default:"
            " beside it, its name with .deid-keys.json.",
        ),
    )
    profiles: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=of(
            "PROFILES",
            as_profiles,
            "What is done on a write about the profiles that a resource claims: off (default),"
            " warn, enforce, for all or by type or profile: warn,Observation=enforce. The row"
            " Reference is about what references lead to.",
        ),
    )
    base_url: str = field(
        default="http://127.0.0.1:8080",
        metadata=of(
            "BASE_URL",
            as_url,
            "Public URL of the server, without /fhir; every URL in an answer starts with it.",
        ),
    )
    domain: str = field(
        default="local", metadata=of("DOMAIN", as_text, "Name of this domain (an institution).")
    )
    hosts: tuple[str, ...] = field(
        default=(),
        metadata=of(
            "HOSTS", as_names, "Further host names that the server answers to, comma-separated."
        ),
    )
    origins: tuple[str, ...] = field(
        default=("registered",),
        metadata=of(
            "ORIGINS",
            as_names,
            "Browser origins that may call the API, comma-separated; registered = those of"
            " registered clients; * = any.",
        ),
    )
    tls_cert: Path | None = field(
        default=None,
        metadata=of(
            "TLS_CERT",
            as_path,
            "File with the server's certificate chain (PEM); it then speaks TLS.",
        ),
    )
    tls_key: Path | None = field(
        default=None,
        metadata=of(
            "TLS_KEY", as_path, "File with the key of the certificate (PEM); default: beside it."
        ),
    )
    proxies: tuple[str, ...] = field(
        default=(),
        metadata=of(
            "PROXIES",
            as_networks,
            "Addresses or networks of reverse proxies, comma-separated, whose X-Forwarded-For"
            " tells the client's address; nobody else's is believed.",
        ),
    )
    second_factor: str = field(
        default="optional",
        metadata=of(
            "SECOND_FACTOR",
            one_of("optional", "required"),
            "required: clinicians and administrators sign in with a one-time code too.",
        ),
    )
    login_provider: Path | None = field(
        default=None,
        metadata=of(
            "LOGIN_PROVIDER", as_path, "File (TOML) of an external OpenID provider for logins."
        ),
    )
    registration: str = field(
        default="off",
        metadata=of(
            "REGISTRATION",
            one_of("off", "token"),
            "token: apps register themselves (RFC 7591) with an initial access token.",
        ),
    )
    outbound_loopback: str = field(
        default="no",
        metadata=of(
            "OUTBOUND_LOOPBACK",
            one_of("yes", "no"),
            "yes: key sets of clients may be fetched from this machine; for tests only.",
        ),
    )
    imports: Path | None = field(
        default=None,
        metadata=of(
            "IMPORT", as_path, "Folder with files that $import may read; default: none are."
        ),
    )
    research: str = field(
        default="on",
        metadata=of(
            "RESEARCH",
            one_of("on", "off"),
            "on: the data bank is served at /research; vehr research sync fills it.",
        ),
    )
    research_minutes: int = field(
        default=0,
        metadata=of(
            "RESEARCH_MINUTES",
            as_count,
            "Minutes between two runs that fill the data bank from the record; 0: none by itself.",
        ),
    )
    research_project: str = field(
        default="research",
        metadata=of(
            "RESEARCH_PROJECT", as_text, "Project whose key makes the pseudonyms of the data bank."
        ),
    )
    research_least: int = field(
        default=10,
        metadata=of("RESEARCH_LEAST", as_positive, "Smallest count that researchers are told."),
    )
    time_zone: str = field(
        default="UTC",
        metadata=of("TIME_ZONE", as_zone, "Time zone of dates and times that do not name one."),
    )
    metrics_token: str = field(
        default="",
        metadata=of(
            "METRICS_TOKEN",
            as_token,
            "Bearer token for /metrics, from anywhere; unset: only direct from this machine.",
        ),
    )

    @property
    def on_mongodb(self) -> bool:
        """Whether the store is a MongoDB."""
        return self.store.startswith("mongodb")

    @property
    def erased(self) -> Path:
        """Where erases are recorded."""
        data = self.data.absolute()
        return self.erase_log or data.with_name(data.name + ".erased.ndjson")

    @property
    def deid_folder(self) -> Path:
        """Where further profiles and the vault lie."""
        return self.deid or self.data / "deid"

    @property
    def deid_key_file(self) -> Path:
        """Where the keys of projects lie."""
        data = self.data.absolute()
        return self.deid_keys or data.with_name(data.name + ".deid-keys.json")

    def json_limits(self) -> JsonLimits:
        return JsonLimits(
            body=self.max_body,
            depth=self.max_depth,
            string=self.max_string,
            array=self.max_array,
        )


EITHER: Final = (("VEHR_SEARCH_SECRET", "VEHR_SEARCH_SECRET_FILE"),)
"""Settings that say the same: one of them may be set."""


def read(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; SettingsError names the first bad variable."""
    rows = {row.metadata["env"]: row for row in fields(Settings)}
    given = sorted(name for name in environ if name.startswith(PREFIX))
    values: dict[str, Any] = {}
    for name in given:
        row = rows.get(name)
        if row is not None:
            values[row.name] = _parse(row, environ[name])
        elif not name.startswith(TESTS):
            raise SettingsError(f"{name} is not a setting of this server")
    for one, other in EITHER:
        if one in environ and other in environ:
            raise SettingsError(f"{one} and {other} are both set: which is meant is not known")
    return Settings(**values)


def _parse(row: Field[Any], value: str) -> object:
    try:
        return row.metadata["parse"](value)
    except ValueError as error:
        # A value with an @ may hold credentials.
        shown = "…" if "@" in value else repr(value)
        raise SettingsError(f"{row.metadata['env']}={shown}: {error}") from None
