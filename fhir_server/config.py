"""Every setting of the server, once: name, environment variable, type, default, meaning.

Settings come from the environment only. An unknown ``VEHR_`` variable or a value that does
not parse is a ``SettingsError`` with one clear line; the commands end with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from fhir_server.config_values import (
    Bucket,
    as_bucket,
    as_count,
    as_events,
    as_models,
    as_names,
    as_networks,
    as_path,
    as_positive,
    as_store,
    as_text,
    as_token,
    as_url,
    as_zone,
    one_of,
)
from fhir_server.formats.json import Limits as JsonLimits

PREFIX: Final = "VEHR_"
TESTS: Final = "VEHR_TEST_"
"""Begins variables of the test suite, which the server leaves alone."""


class SettingsError(ValueError):
    """A setting that cannot be used; its text is the one line that the user reads."""


def of(env: str, parse: Callable[[str], object], doc: str) -> dict[str, object]:
    """What makes a dataclass field a setting."""
    return {"env": PREFIX + env, "parse": parse, "doc": doc}


@dataclass(frozen=True, slots=True)
class Settings:
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
    user_rate: int = field(
        default=6000,
        metadata=of(
            "USER_RATE",
            as_count,
            "Requests of one user in a minute, of a worker (entries of Bundles count);"
            " beyond: 429; 0: any number.",
        ),
    )
    client_rate: int = field(
        default=600000,
        metadata=of(
            "CLIENT_RATE",
            as_count,
            "Requests of one client in a minute, of a worker; beyond: 429; 0: any number.",
        ),
    )
    delicate_rate: int = field(
        default=60,
        metadata=of(
            "DELICATE_RATE",
            as_count,
            "In a minute, of one user or address: changes of consents, exports, broken glass,"
            " registrations, administration; beyond: 429; 0: any number.",
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
    outbound_loopback: str = field(
        default="no",
        metadata=of(
            "OUTBOUND_LOOPBACK",
            one_of("yes", "no"),
            "yes: key sets of clients may be fetched from this machine; for tests only.",
        ),
    )
    time_zone: str = field(
        default="UTC",
        metadata=of("TIME_ZONE", as_zone, "Time zone of dates and times that do not name one."),
    )
    page_size: int = field(
        default=20, metadata=of("PAGE_SIZE", as_positive, "Matches on a page without _count.")
    )
    max_page_size: int = field(
        default=1000, metadata=of("MAX_PAGE_SIZE", as_positive, "Greatest _count.")
    )
    max_values: int = field(
        default=1000,
        metadata=of(
            "MAX_VALUES", as_positive, "Most alternatives (a,b,c) of one search criterion."
        ),
    )
    max_chain: int = field(
        default=4,
        metadata=of("MAX_CHAIN", as_positive, "Most chained references and _has in one criterion."),
    )
    max_includes: int = field(
        default=50,
        metadata=of(
            "MAX_INCLUDES", as_positive, "Most _include and _revinclude of a query but for *."
        ),
    )
    max_body: int = field(
        default=10000000, metadata=of("MAX_BODY", as_positive, "Greatest request body.")
    )
    max_content: int = field(
        default=100000000,
        metadata=of("MAX_CONTENT", as_positive, "Greatest raw content of a Binary."),
    )
    max_depth: int = field(
        default=64, metadata=of("MAX_DEPTH", as_positive, "Deepest nesting of JSON.")
    )
    max_string: int = field(
        default=1048576,
        metadata=of(
            "MAX_STRING", as_positive, "Longest JSON string but base64 content (characters)."
        ),
    )
    max_array: int = field(
        default=100000, metadata=of("MAX_ARRAY", as_positive, "Longest JSON array (items).")
    )
    max_entries: int = field(
        default=1000,
        metadata=of("MAX_ENTRIES", as_positive, "Most entries of a batch or transaction."),
    )
    max_url: int = field(
        default=16384, metadata=of("MAX_URL", as_positive, "Longest URL with its query.")
    )
    max_headers: int = field(
        default=32768, metadata=of("MAX_HEADERS", as_positive, "Most bytes of request headers.")
    )
    compress_above: int = field(
        default=32768,
        metadata=of(
            "COMPRESS_ABOVE",
            as_count,
            "Bytes above which an answer is compressed (gzip) for who takes that; 0: never.",
        ),
    )
    conditional_delete: str = field(
        default="single",
        metadata=of(
            "CONDITIONAL_DELETE",
            one_of("single", "multiple"),
            "What a conditional delete may remove: single, or multiple (up to 1000) resources.",
        ),
    )
    request_seconds: int = field(
        default=30,
        metadata=of("REQUEST_SECONDS", as_positive, "Time after which a request is given up."),
    )
    max_running: int = field(
        default=500,
        metadata=of(
            "MAX_RUNNING", as_positive, "Requests that a worker works on at a time; beyond: 503."
        ),
    )
    max_slow: int = field(
        default=32,
        metadata=of(
            "MAX_SLOW",
            as_positive,
            "Slow searches of one principal that wait at a time; beyond: 429.",
        ),
    )
    max_held: int = field(
        default=268435456,
        metadata=of(
            "MAX_HELD", as_positive, "Bytes of request bodies in a worker's memory; beyond: 503."
        ),
    )
    max_connections: int = field(
        default=10000,
        metadata=of(
            "MAX_CONNECTIONS",
            as_positive,
            "Connections of a worker, at most 3/4 of the files it may open; beyond: 503.",
        ),
    )
    head_seconds: int = field(
        default=10,
        metadata=of("HEAD_SECONDS", as_positive, "Time in which the headers of a request arrive."),
    )
    stall_seconds: int = field(
        default=30,
        metadata=of(
            "STALL_SECONDS", as_positive, "Time in which a client takes some of its answer."
        ),
    )
    idle_seconds: int = field(
        default=75,
        metadata=of("IDLE_SECONDS", as_positive, "Time that a connection stays without a request."),
    )
    leave_seconds: int = field(
        default=2,
        metadata=of(
            "LEAVE_SECONDS",
            as_positive,
            "Time in which a server that was told to stop still serves, but is not ready.",
        ),
    )
    max_jobs: int = field(
        default=5, metadata=of("MAX_JOBS", as_positive, "Most unfinished jobs of one owner.")
    )
    running_jobs: int = field(
        default=4, metadata=of("RUNNING_JOBS", as_positive, "Jobs that a worker runs at a time.")
    )
    job_hours: int = field(
        default=24,
        metadata=of("JOB_HOURS", as_positive, "How long ended jobs and their files stay."),
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

    def json_limits(self) -> JsonLimits:
        return JsonLimits(
            body=self.max_body,
            depth=self.max_depth,
            string=self.max_string,
            array=self.max_array,
        )


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
    return Settings(**values)


def _parse(row: Field[Any], value: str) -> object:
    try:
        return row.metadata["parse"](value)
    except ValueError as error:
        # A value with an @ may hold credentials.
        shown = "…" if "@" in value else repr(value)
        raise SettingsError(f"{row.metadata['env']}={shown}: {error}") from None
