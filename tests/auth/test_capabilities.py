"""A07: every capability that is listed has a test that shows it, or this fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fhir_server.auth.endpoints.discovery import CAPABILITIES, GRANTS, METHODS

ROOT = Path(__file__).parents[1]
AUTHORIZE, TOKEN = "smart/test_b_authorize.py", "smart/test_c_token.py"
SCOPES, REFRESH = "smart/test_f_scopes.py", "smart/test_d_refresh.py"
SHOWN: dict[str, tuple[str, str]] = {
    "launch-ehr": (AUTHORIZE, "test_b16_ehr_launch"),
    "launch-standalone": (AUTHORIZE, "test_b01_standalone_launch"),
    "authorize-post": (AUTHORIZE, "test_b02_the_same_by_post"),
    "client-public": (AUTHORIZE, "test_b01_standalone_launch"),
    "client-confidential-symmetric": (TOKEN, "test_c10_symmetric_clients"),
    "client-confidential-asymmetric": ("smart/test_g_backend.py", "test_c11_codes_with_assertions"),
    "sso-openid-connect": ("smart/test_e_openid.py", "test_e01_e04_the_id_token"),
    "context-banner": (AUTHORIZE, "test_b16_ehr_launch"),
    "context-style": (AUTHORIZE, "test_b16_ehr_launch"),
    "context-ehr-patient": (AUTHORIZE, "test_b16_ehr_launch"),
    "context-ehr-encounter": (AUTHORIZE, "test_b16_ehr_launch"),
    "context-standalone-patient": (AUTHORIZE, "test_b01_standalone_launch"),
    "context-standalone-encounter": (
        "auth/test_contexts.py",
        "test_a_standalone_app_is_told_the_encounter",
    ),
    "permission-offline": (REFRESH, "test_d07_online_ends_with_the_session_and_offline_does_not"),
    "permission-online": (REFRESH, "test_d07_online_ends_with_the_session_and_offline_does_not"),
    "permission-patient": (SCOPES, "test_f03_other_types"),
    "permission-user": ("smart/test_user_scopes.py", "test_a_clinician_sees_patients_in_care"),
    "permission-v1": (SCOPES, "test_f02_version_1"),
    "permission-v2": (SCOPES, "test_f04_f05_granular_scopes"),
    "authorization_code": (AUTHORIZE, "test_b01_standalone_launch"),
    "refresh_token": (REFRESH, "test_d01_to_d03"),
    "client_credentials": ("smart/test_g_backend.py", "test_g01_a_service_gets_a_token"),
    "client_secret_basic": (TOKEN, "test_c10_symmetric_clients"),
    "client_secret_post": (TOKEN, "test_c10_symmetric_clients"),
    "private_key_jwt": ("smart/test_g_backend.py", "test_g01_a_service_gets_a_token"),
    "none": (AUTHORIZE, "test_b01_standalone_launch"),
}


def named_in(path: str) -> set[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    return set(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE))


@pytest.mark.parametrize("name", [*CAPABILITIES, *GRANTS, *METHODS])
def test_a07_what_is_listed_is_shown(name: str) -> None:
    path, test = SHOWN[name]
    assert test in named_in(path), f"{path} has no {test}"


def test_a07_nothing_else_is_shown() -> None:
    assert SHOWN.keys() == {*CAPABILITIES, *GRANTS, *METHODS}


LAST = {"a": 14, "b": 18, "c": 17, "d": 10, "e": 6, "f": 10, "g": 25, "i": 3, "j": 4}
"""Sections of the checks -> their last number."""


def numbered() -> set[str]:
    """Numbers that names and descriptions of tests bear: ``b05_to_b08``, ``B18``."""
    found: set[str] = set()
    for path in (*ROOT.glob("smart/test_*.py"), *ROOT.glob("auth/test_*.py"), *FURTHER):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"def test_(\w+)\(", text):
            for letter, first, last in re.findall(r"([a-j])(\d\d)_to_\1(\d\d)", name):
                found |= {f"{letter}{n:02}" for n in range(int(first), int(last) + 1)}
            found |= set(re.findall(r"(?:^|_)([a-j]\d\d)(?=b?(?:_|$))", name))
        for line in re.findall(r'^ +"""(.*)$', text, re.MULTILINE):
            found |= {number.lower() for number in re.findall(r"\b([A-J]\d\d)\b", line)}
    return found


FURTHER = (
    ROOT / "workers" / "test_tls.py",
    ROOT / "http" / "test_deny_every_route.py",
)


def test_every_number_of_the_checks_has_a_test() -> None:
    every = {f"{letter}{n:02}" for letter, last in LAST.items() for n in range(1, last + 1)}
    assert sorted(every - numbered()) == []
