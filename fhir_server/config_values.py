"""How the text of a setting becomes its value; ValueError says in a few words what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

PREFIX: Final = "VEHR_"


def of(env: str, parse: Callable[[str], object], doc: str) -> dict[str, object]:
    """What makes a dataclass field a setting."""
    return {"env": PREFIX + env, "parse": parse, "doc": doc}


def as_text(value: str) -> str:
    if not value or any(ord(c) < 32 for c in value):
        raise ValueError("must not be empty")
    return value


def as_count(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number, 0 or more")
    return int(value)


def as_minutes(value: str) -> int:
    """Up to an hour."""
    number = int(value) if value.isascii() and value.isdigit() else -1
    if not 0 <= number <= 60:
        raise ValueError("must be minutes, 0 to 60")
    return number


def as_positive(value: str) -> int:
    number = int(value) if value.isascii() and value.isdigit() else 0
    if number < 1:
        raise ValueError("must be a whole number above 0")
    return number


def as_profiles(value: str) -> tuple[tuple[str, str], ...]:
    """(type, profile or "" for all, mode)"""
    rows = []
    for part in (one.strip() for one in value.split(",") if one.strip()):
        name, _, mode = part.rpartition("=")
        if mode not in ("off", "warn", "enforce"):
            raise ValueError(f"{part[:60]!r}: must be off, warn or enforce, or NAME= before it")
        rows.append((name, mode))
    if len({name for name, _ in rows}) < len(rows):
        raise ValueError("must not name anything twice")
    return tuple(rows)


def as_path(value: str) -> Path:
    return Path(as_text(value)).expanduser()


def as_models(value: str) -> Path | None:
    path = as_path(value)
    if not path.is_dir():
        raise ValueError("must be a folder")
    return path


def as_store(value: str) -> str:
    if value in ("sqlite:", "memory:"):
        return value
    if value.startswith(("mongodb://", "mongodb+srv://")):
        if not value.partition("://")[2].partition("?")[0].partition("/")[2]:
            raise ValueError("must name a database: mongodb://HOST/NAME")
        return value
    raise ValueError("must be sqlite: or mongodb://HOST/NAME")


def as_events(value: str) -> str:
    if value == "embedded:":
        return value
    if value.startswith(("amqp://", "amqps://", "kafka://")):
        raise ValueError("message brokers are not available yet; use embedded:")
    raise ValueError("must be embedded:")


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return value

    return parse


def as_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be a URL without query, fragment and credentials")
    return value.rstrip("/")


def as_names(value: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in value.split(",") if name.strip())


def as_networks(value: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(name)) for name in as_names(value))
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8") from None


def as_token(value: str) -> str:
    if len(value) < 16 or not all("!" <= c <= "~" for c in value):
        raise ValueError("must be at least 16 printable ASCII characters")
    return value


def as_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be an IANA time zone name such as Europe/Kyiv") from None
    return value


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an S3-compatible object store. ``prefix``: empty, or ends in a slash.
    ``endpoint``, ``region``: empty where AWS's own configuration says it.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""


_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*")


def as_bucket(value: str) -> Bucket:
    """``s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]``"""
    parts = urlsplit(value)
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
        raise ValueError("must be s3://BUCKET/PREFIX")
    prefix = parts.path.strip("/")
    prefix = prefix and prefix + "/"
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("its prefix may hold letters, digits, . _ - and /")
    options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    given = dict(options)
    if len(given) < len(options) or not given.keys() <= {"endpoint", "region"}:
        raise ValueError("may have one endpoint and one region behind the ?, nothing else")
    endpoint = as_url(given["endpoint"]) if "endpoint" in given else ""
    return Bucket(parts.netloc, prefix, endpoint, given.get("region", ""))
