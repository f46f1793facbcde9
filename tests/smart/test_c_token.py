"""checks C: the token endpoint, with codes."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest

from tests.serving import Server
from tests.smart.flow import (
    AUTH,
    BACK,
    FORM,
    App,
    Json,
    bearer,
    code_for,
    ledger_ahead,
    tokens_for,
)

SCOPE = "launch/patient patient/*.rs"
SECRET = "a secret of the keeper 123"


def basic(id_: str, secret: str) -> Json:
    return {
        **FORM,
        "authorization": "Basic " + base64.b64encode(f"{id_}:{secret}".encode()).decode(),
    }


def test_c01_c02_the_answer(clinic: Server) -> None:
    app = App(clinic)
    answer = app.redeem(code_for(app, SCOPE))
    found = answer.json()
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert isinstance(found["access_token"], str) and found["token_type"] == "Bearer"
    assert 0 < found["expires_in"] <= 3600 and found["scope"] == SCOPE
    assert "refresh_token" not in found and "id_token" not in found


@pytest.mark.parametrize(
    "changed",
    [
        {"code": "BAD_CODE"},
        {"code": ""},
        {"code_verifier": ""},
        {"code_verifier": "x" * 43},
        {"code_verifier": "x" * 200},
        {"redirect_uri": "https://app.example.org/other"},
        {"redirect_uri": ""},
    ],
)
def test_c03_to_c09_a_code_in_vain(clinic: Server, changed: dict[str, str]) -> None:
    """C09: what was tried in vain is spent."""
    app = App(clinic)
    code = code_for(app, SCOPE)
    answer = app.redeem(**{"code": code, **changed})
    assert answer.status_code == 400 and answer.json()["error"] == "invalid_grant"
    assert answer.headers["cache-control"] == "no-store"
    if "code" not in changed:
        assert app.redeem(code).json()["error"] == "invalid_grant"


def test_c04_c08_other_clients_and_the_challenge_as_verifier(clinic: Server) -> None:
    app = App(clinic)
    assert app.redeem("x", client_id="BAD_CLIENT_ID").status_code == 401
    code = code_for(app, SCOPE)
    assert app.redeem(code, code_verifier=app.challenge).status_code == 400
    clinic.client("thief", redirects=(BACK,), scope=SCOPE)
    code = code_for(app, SCOPE)
    assert app.redeem(code, client_id="thief").json()["error"] == "invalid_grant"
    assert app.redeem(code).json()["error"] == "invalid_grant"


def test_c10_symmetric_clients(clinic: Server) -> None:
    app = App(clinic, "keeper", secret=SECRET)
    assert tokens_for(app, SCOPE)["access_token"]
    code = code_for(app, SCOPE)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": BACK,
        "code_verifier": app.verifier,
    }
    wrong = app.post("token", headers=basic("keeper", "wrong"), **form)
    assert wrong.status_code == 401 and wrong.json()["error"] == "invalid_client"
    assert wrong.headers["www-authenticate"].startswith("Basic")
    both = app.post("token", client_secret=SECRET, **form)
    assert both.status_code == 400 and both.json()["error"] == "invalid_request"
    for headers, more in (
        (FORM, {"client_id": "keeper"}),
        (FORM, {"client_id": "keeper", "client_secret": ""}),
        (FORM, {"client_id": "app", "client_secret": "anything at all, long"}),
        (basic("app", ""), {}),
        (basic("app", "x"), {}),
        (basic("nobody", "x"), {}),
        ({**FORM, "authorization": "Basic !!!"}, {}),
        ({**FORM, "authorization": "Bearer x"}, {}),
    ):
        answer = app.post("token", headers=headers, **form, **more)
        assert answer.status_code == 401 and answer.json()["error"] == "invalid_client", more
    other = app.post("token", headers=basic("keeper", SECRET), **form, client_id="app")
    assert other.json()["error"] == "invalid_request"
    posted = app.post("token", headers=FORM, client_id="keeper", client_secret=SECRET, **form)
    assert posted.status_code == 200


def test_c12_the_context_is_readable(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), SCOPE)
    assert isinstance(tokens["patient"], str)
    patient = clinic.get(f"Patient/{tokens['patient']}", headers=bearer(tokens))
    assert patient.status_code == 200


def test_c15_a_token_ends(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), SCOPE)
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 200
    ledger_ahead(clinic, lambda: float(tokens["expires_in"]) + 1)
    late = clinic.get("Patient/a", headers=bearer(tokens))
    assert late.status_code == 401 and 'error="invalid_token"' in late.headers["www-authenticate"]


def test_c17_a_token_belongs_into_the_header(clinic: Server) -> None:
    token = tokens_for(App(clinic), SCOPE)["access_token"]
    assert clinic.get(f"Patient/a?access_token={token}").status_code == 401
    for header in (f"Basic {token}", token, f"Bearer {token}x", "Bearer", "Bearer  "):
        answer = clinic.get("Patient/a", headers={"authorization": header})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{}", {"content-type": "application/json"}, 415),
        (b"grant_type=client_credentials", {}, 415),
        (b"grant_type=password&username=doc&password=x", FORM, 400),
        (b"grant_type=authorization_code&grant_type=refresh_token", FORM, 400),
        (b"grant_type=refresh_token&client_id=app&client_id=app&refresh_token=x", FORM, 400),
        (b"grant_type=refresh_token&client_id=app", FORM, 400),
        (b"\xff\xfe", FORM, 400),
        (b"x" * 70_000, FORM, 413),
        (b"&".join(b"a%d=1" % n for n in range(300)), FORM, 400),
        (b"", FORM, 400),
    ],
)
def test_what_cannot_be_read(
    clinic: Server, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = clinic.send("POST", f"{AUTH}/token", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] and "access_token" not in answer.json()
    assert answer.headers["cache-control"] == "no-store"


def test_credentials_do_not_belong_into_the_url(clinic: Server) -> None:
    body = urlencode({"grant_type": "client_credentials", "client_id": "keeper", "scope": "x"})
    url = f"{AUTH}/token?client_secret={SECRET}"
    answer = clinic.send("POST", url, content=body, headers=FORM)
    assert answer.json()["error"] == "invalid_request"


def test_guesses_of_a_secret_are_throttled(clinic: Server) -> None:
    app = App(clinic, "keeper", secret=SECRET)
    statuses = {
        app.post(
            "token", headers=basic("keeper", f"guess {n}"), grant_type="client_credentials"
        ).status_code
        for n in range(25)
    }
    assert statuses == {401, 429}
