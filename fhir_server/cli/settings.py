"""The settings of a command: the environment, then what its options say."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.config import Settings, SettingsError, read

Data = Annotated[
    Path | None, typer.Option("--data", help="Data directory (VEHR_DATA).", show_default=False)
]


def settings_of(data: Path | None = None, base_url: str | None = None) -> Settings:
    """``base_url``: used unless VEHR_BASE_URL is set."""
    settings = read()
    if data is not None:
        settings = replace(settings, data=data)
    if base_url is not None and "VEHR_BASE_URL" not in os.environ:
        settings = replace(settings, base_url=base_url)
    if settings.data.exists() and not settings.data.is_dir():
        raise SettingsError(f"the data directory {settings.data} is a file")
    return settings


def lasting(settings: Settings) -> Settings:
    """Refuses a store that another process cannot see."""
    if settings.store == "memory:":
        raise SettingsError("VEHR_STORE=memory: keeps nothing that another process could use")
    return settings
