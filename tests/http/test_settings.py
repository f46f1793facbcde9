from __future__ import annotations

from dataclasses import fields

import pytest

from fhir_server.config import Settings, SettingsError, read
from fhir_server.config_table import settings_table


def test_defaults_and_values() -> None:
    assert read({"PATH": "x", "VEHR_TEST_DATA": "y"}) == Settings()
    given = read({"VEHR_DATA": "d", "VEHR_BASE_URL": "https://h.example/", "VEHR_PAGE_SIZE": "5"})
    assert (str(given.data), given.base_url, given.page_size) == ("d", "https://h.example", 5)
    assert read({"VEHR_ORIGINS": "https://A.example, b"}).origins == ("https://a.example", "b")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("VEHR_DATABASE", "x", "VEHR_DATABASE is not a setting"),
        ("VEHR_STORE", "mongodb://user:secret@h/?w=1", "must name a database"),
        ("VEHR_STORE", "postgres://x", "must be sqlite:"),
        ("VEHR_SEARCH", "e:9200", "http or https"),
        ("VEHR_EVENTS", "kafka://h", "not available yet"),
        ("VEHR_BASE_URL", "h.example", "http or https"),
        ("VEHR_BASE_URL", "https://h.example/?a=1", "without query"),
        ("VEHR_MAX_BODY", "0", "above 0"),
        ("VEHR_MAX_BODY", "1e6", "whole number"),
        ("VEHR_TIME_ZONE", "Mars/Olympus", "time zone"),
        ("VEHR_DATA", "", "empty"),
    ],
)
def test_one_clear_line(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({name: value})
    text = str(caught.value)
    assert said in text and name in text and "\n" not in text and "secret" not in text


def test_every_setting_is_in_the_table() -> None:
    table = settings_table()
    for row in fields(Settings):
        assert f"| `{row.metadata['env']}` |" in table and row.metadata["doc"] in table


def test_what_is_said_twice_is_refused() -> None:
    """Neither of two secrets is taken in silence."""
    both = {"VEHR_SEARCH_SECRET": "hush", "VEHR_SEARCH_SECRET_FILE": "/run/secrets/search"}
    with pytest.raises(SettingsError) as caught:
        read(both)
    text = str(caught.value)
    assert all(name in text for name in both) and "\n" not in text and "hush" not in text
