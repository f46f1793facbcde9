"""checks B: the authorization endpoint and the pages behind it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest

from fhir_server.access.ports import Row
from tests.serving import Server
from tests.smart.conftest import CATEGORY
from tests.smart.flow import (
    AUTH,
    BACK,
    FHIR,
    FORM,
    WORD,
    App,
    Browser,
    approve,
    bearer,
    code_for,
    everything,
    forms,
    parameters,
    tokens_for,
)

SCOPE = "launch/patient patient/*.rs openid fhirUser"


def refused(server: Server, app: App, **changed: str | None) -> dict[str, str]:
    """The error that a request leads to, at the app's address, with its state and our name."""
    answer = Browser(server).get(app.authorize(changed.pop("scope", SCOPE) or "", **changed))
    assert answer.headers["location"].startswith(BACK + "?")
    found = parameters(answer)
    assert found["iss"] == AUTH and "code" not in found
    return found


def test_b01_standalone_launch(lasting: Server) -> None:
    app = App(lasting)
    tokens = tokens_for(app, SCOPE)
    assert tokens["patient"] == "a" and set(tokens["scope"].split()) == set(SCOPE.split())
    patient = lasting.get("Patient/a", headers=bearer(tokens))
    assert patient.status_code == 200
    assert lasting.get("Patient/b", headers=bearer(tokens)).status_code == 404


def test_b02_the_same_by_post(clinic: Server) -> None:
    app, browser = App(clinic), Browser(clinic)
    page = browser.post("authorize", list(app.request(SCOPE).items()))
    answer = approve(browser, page)
    assert app.redeem(parameters(answer)["code"]).status_code == 200


@pytest.mark.parametrize("client", ["", "nobody", "app2", "../app", "app\x00"])
def test_b03_an_unknown_client_gets_a_page(clinic: Server, client: str) -> None:
    answer = Browser(clinic).get(App(clinic).authorize(SCOPE, client_id=client))
    assert answer.status_code == 400 and "location" not in answer.headers


@pytest.mark.parametrize(
    "uri",
    [
        "",
        BACK + "/",
        BACK + "?a=b",
        BACK + "#x",
        BACK + "/../cb",
        BACK.upper(),
        "https://app.example.org:8443/cb",
        "https://x@app.example.org/cb",
        "https://app.example.org.evil.example/cb",
        "https://evil.example/",
        "//evil.example",
        "javascript:alert(1)",
        "http://app.example.org/cb",
    ],
)
def test_b04_another_address_gets_a_page_and_never_a_redirect(clinic: Server, uri: str) -> None:
    answer = Browser(clinic).once("GET", App(clinic).authorize(SCOPE, redirect_uri=uri))
    assert answer.status_code == 400 and "location" not in answer.headers
    twice = App(clinic).authorize(SCOPE) + "&redirect_uri=https://evil.example/"
    answer = Browser(clinic).once("GET", twice)
    assert answer.status_code == 400 and "location" not in answer.headers


def test_b05_to_b08_what_is_wrong_is_told_to_the_app(clinic: Server) -> None:
    app = App(clinic)
    for changed, error in (
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"aud": "https://other.example/fhir"}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"aud": FHIR + "2"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "x" * 42}, "invalid_request"),
        ({"code_challenge": "x" * 129}, "invalid_request"),
        ({"code_challenge": "é" * 43}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "patient/Observation.sr patient/Nothing.rs x"}, "invalid_scope"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"scope": "launch patient/*.rs"}, "invalid_request"),
        ({"launch": "x"}, "invalid_request"),
        ({"prompt": "none"}, "interaction_required"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "https://evil.example/"}, "request_uri_not_supported"),
        ({"nonce": "x" * 5000}, "invalid_request"),
    ):
        found = refused(clinic, app, **changed)  # type: ignore[arg-type]
        assert (found["error"], found["state"]) == (error, app.state), changed
    assert refused(clinic, app, state=None)["error"] == "invalid_request"
    answer = Browser(clinic).get(app.authorize(SCOPE) + "&scope=openid")
    assert parameters(answer)["error"] == "invalid_request"
    keeper = App(clinic, "keeper", secret="a secret of the keeper 123")
    assert refused(clinic, keeper, code_challenge=None)["error"] == "invalid_request"


def test_b06_aud_with_a_slash_is_the_same(clinic: Server) -> None:
    assert code_for(App(clinic), SCOPE, request={"aud": FHIR + "/"})


@pytest.mark.parametrize("state", ["ї€𝄞 і +%2B", "x" * 512, "a&b=c#d", '"><script>'])
def test_b07_state_comes_back_as_it_was(clinic: Server, state: str) -> None:
    app = App(clinic, state=state)
    assert code_for(app, SCOPE)


def test_b09_a_code_is_good_once_for_a_minute(lasting: Server) -> None:
    app = App(lasting)
    code = code_for(app, SCOPE + " offline_access")
    tokens = app.redeem(code).json()
    assert lasting.get("Patient/a", headers=bearer(tokens)).status_code == 200
    again = app.redeem(code)
    assert again.status_code == 400 and again.json()["error"] == "invalid_grant"
    assert lasting.get("Patient/a", headers=bearer(tokens)).status_code == 401
    assert app.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    code_for(app, SCOPE)
    (row,) = [
        row
        for row in lasting.run(lasting.domain.store.ledger.scan("code"))
        if "approval" not in row.value
    ]
    assert row.expires is not None and row.expires <= lasting.domain.identities.records.now() + 60


@pytest.mark.parametrize("other", [None, "w" * 43])
def test_b09_two_redeem_at_once_and_neither_keeps_it(
    lasting: Server, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    """Both have seen that the code is unspent before either spends it."""
    app = App(lasting)
    code = code_for(app, SCOPE)
    records = lasting.domain.identities.records
    read, both, seen = records.get, asyncio.Barrier(2), []

    async def together(kind: str, key: str) -> Row | None:
        row = await read(kind, key)
        if kind == "code" and len(seen) < 2:
            seen.append(row)
            await both.wait()
        return row

    monkeypatch.setattr(records, "get", together)
    body = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": BACK,
        "code_verifier": app.verifier,
        "client_id": "app",
    }
    forms_ = (body, body | {"code_verifier": other or app.verifier})
    found = lasting.send_all(
        [("POST", f"{AUTH}/token", {"content": urlencode(f), "headers": FORM}) for f in forms_]
    )
    issued = [answer.json() for answer in found if answer.status_code == 200]
    assert len(issued) <= 1
    assert all(a.json()["error"] == "invalid_grant" for a in found if a.status_code != 200)
    for tokens in issued:
        assert lasting.get("Patient/a", headers=bearer(tokens)).status_code == 401


def test_b10_what_is_unticked_is_not_granted(clinic: Server) -> None:
    scope = "launch/patient patient/Patient.rs patient/Observation.rs patient/Condition.rs"
    kept = ["launch/patient", "patient/Patient.rs"]
    tokens = tokens_for(App(clinic), scope, tick=lambda form: kept)
    assert tokens["scope"].split() == kept
    assert clinic.get("Observation", headers=bearer(tokens)).status_code == 403
    more = [*everything(forms(_consent(clinic, scope))[-1]), "patient/Encounter.rs"]
    browser = Browser(clinic)
    answer = approve(browser, browser.get(App(clinic).authorize(scope)), tick=lambda form: more)
    assert answer.status_code == 400 and "location" not in answer.headers
    nothing = approve(browser, browser.get(App(clinic).authorize(scope)), tick=lambda form: [])
    assert parameters(nothing)["error"] == "access_denied"


def _consent(server: Server, scope: str, user: str = "doc"):  # type: ignore[no-untyped-def]
    browser = Browser(server)
    page = browser.sign_in(browser.get(App(server).authorize(scope)), user)
    return browser.submit(page, ("patient", "a")) if 'name="patient"' in page.text else page


def test_b11_a_type_may_be_narrowed_to_categories(clinic: Server) -> None:
    part = f"patient/Observation.rs?category={CATEGORY}|laboratory"
    page = _consent(clinic, "launch/patient patient/Observation.rs")
    assert part in forms(page)[-1].values("scope")
    tokens = tokens_for(
        App(clinic), "launch/patient patient/Observation.rs", tick=lambda form: [part]
    )
    assert tokens["scope"] == part and tokens["patient"] == "a"
    found = clinic.get("Observation", headers=bearer(tokens)).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == ["laboratory-a"]
    hidden = clinic.get("Observation/vital-signs-a", headers=bearer(tokens))
    assert hidden.status_code == 404


@pytest.mark.parametrize(("asked", "part"), [("rs", "rs"), ("read", "read")])
def test_b11_the_whole_record_may_be_narrowed_to_types(
    clinic: Server, asked: str, part: str
) -> None:
    scope, kept = f"launch/patient patient/*.{asked}", f"patient/Condition.{part}"
    offered = forms(_consent(clinic, scope))[-1].values("scope")
    assert kept in offered and len(set(offered)) == len(offered)
    assert offered.index(kept) > offered.index(f"patient/*.{asked}")
    tokens = tokens_for(App(clinic), scope, tick=lambda form: ["launch/patient", kept])
    assert tokens["scope"] == f"launch/patient {kept}"
    assert clinic.get("Condition", headers=bearer(tokens)).status_code == 200
    assert clinic.get("Observation", headers=bearer(tokens)).status_code == 403
    both = f"patient/*.{asked} {kept}"
    offered = forms(_consent(clinic, both))[-1].values("scope")
    assert offered.count(kept) == 1
    assert tokens_for(App(clinic), both, tick=lambda form: both.split())["scope"] == both


def test_b12_b13_refusing_is_told_with_state_and_issuer(clinic: Server) -> None:
    app, browser = App(clinic), Browser(clinic)
    answer = approve(browser, browser.get(app.authorize(SCOPE)), decision="deny")
    found = parameters(answer)
    assert found["error"] == "access_denied"
    assert (found["state"], found["iss"]) == (app.state, AUTH)


def test_b14_the_page_says_what_is_asked_and_how_long(clinic: Server) -> None:
    page = _consent(clinic, SCOPE + " offline_access")
    assert "Growth &lt;Chart&gt;" in page.text and "<Chart>" not in page.text
    assert "Family-a" in page.text and "the whole record" in page.text
    assert "while you are not here" in page.text
    assert "ends after one hour" in _consent(clinic, SCOPE).text
    assert "when you sign out" in _consent(clinic, SCOPE + " online_access").text


def test_b15_the_picker_lists_whom_the_user_may_act_for(clinic: Server) -> None:
    browser = Browser(clinic)
    page = browser.sign_in(browser.get(App(clinic).authorize(SCOPE)), "doc")
    assert forms(page)[-1].values("patient") == ["a", "b"]
    for forged in ("c", "nobody", "", "../a"):
        answer = browser.submit(page, ("patient", forged))
        assert answer.status_code == 403 and "location" not in answer.headers
    clinic.run(clinic.domain.identities.relations.end("doc", "b"))
    assert browser.submit(page, ("patient", "b")).status_code == 403


def test_b15_a_relationship_that_ends_before_the_consent(clinic: Server) -> None:
    browser = Browser(clinic)
    page = browser.sign_in(browser.get(App(clinic).authorize(SCOPE)), "doc")
    page = browser.submit(page, ("patient", "b"))
    clinic.run(clinic.domain.identities.relations.end("doc", "b"))
    answer = browser.submit(page, ("scope", "patient/*.rs"), ("decision", "approve"))
    assert answer.status_code == 400 and "location" not in answer.headers


def test_a_patient_is_not_asked_which_patient(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), SCOPE, user="pat")
    assert tokens["patient"] == "b"


def launch_of(server: Server, user: str = "doc", **body: str) -> str:
    token = server.bearer("user/*.rs", user=user)
    headers = {**token, "content-type": "application/json"}
    answer = server.post(f"{AUTH}/launch", {"client_id": "app", **body}, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["launch"])


def test_b16_ehr_launch(lasting: Server) -> None:
    """C13 too: banner, style, intent."""
    scope = "launch openid fhirUser patient/*.rs"
    launch = launch_of(lasting, patient="b", encounter="e-b", intent="reconcile")
    tokens = tokens_for(App(lasting), scope, request={"launch": launch})
    assert (tokens["patient"], tokens["encounter"]) == ("b", "e-b")
    assert tokens["intent"] == "reconcile" and tokens["need_patient_banner"] is True
    assert lasting.get("Encounter/e-b", headers=bearer(tokens)).status_code == 200
    style = lasting.get(tokens["smart_style_url"])
    assert style.status_code == 200 and style.json()["color_text"]
    browser = Browser(lasting)
    page = browser.sign_in(browser.get(App(lasting).authorize(scope, launch=launch)), "doc")
    assert parameters(page)["error"] == "invalid_request"


def test_b16_launches_of_others_are_unknown(clinic: Server) -> None:
    scope = "launch patient/*.rs"
    clinic.client("other", redirects=(BACK,), scope="launch patient/*.rs")
    clinic.user("second", "family-doctor", "Practitioner/d", WORD)
    clinic.relation("second", "a")
    for launch, client, user in (
        ("made-up", "app", "doc"),
        (launch_of(clinic, patient="a"), "other", "doc"),
        (launch_of(clinic, patient="a"), "app", "second"),
    ):
        browser = Browser(clinic)
        page = browser.get(App(clinic, client).authorize(scope, launch=launch))
        assert parameters(browser.sign_in(page, user))["error"] == "invalid_request"


def test_b16_what_may_be_launched(clinic: Server) -> None:
    token = clinic.bearer("user/*.rs", user="doc")
    headers = {**token, "content-type": "application/json"}
    for body, status in (
        ({"client_id": "app", "patient": "c"}, 403),
        ({"client_id": "app", "patient": "nobody"}, 403),
        ({"client_id": "app", "patient": "a", "encounter": "e-b"}, 403),
        ({"client_id": "app", "patient": "a", "encounter": "nothing"}, 403),
        ({"client_id": "nobody", "patient": "a"}, 400),
        ({"client_id": "app"}, 403),
        ({"client_id": "app", "patient": ["a"]}, 400),
        ({"client_id": "app", "patient": "a", "user": "pat"}, 400),
    ):
        assert clinic.post(f"{AUTH}/launch", body, headers=headers).status_code == status, body
    for other in ({}, clinic.bearer("system/*.rs"), {"authorization": "Bearer x"}):
        refusal = clinic.post(
            f"{AUTH}/launch",
            {"client_id": "app", "patient": "a"},
            headers={**headers, **other} if other else {"content-type": "application/json"},
        )
        assert refusal.status_code in (401, 403)


def test_b17_patient_scopes_never_come_without_a_patient(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), "patient/Observation.rs")
    assert tokens["patient"] == "a"
    clinic.user("lonely", "family-doctor", "Practitioner/d", WORD)
    browser = Browser(clinic)
    answer = browser.sign_in(browser.get(App(clinic).authorize(SCOPE)), "lonely")
    assert parameters(answer)["error"] == "access_denied"


def test_the_client_is_the_ceiling(clinic: Server) -> None:
    clinic.client("small", redirects=(BACK,), scope="launch/patient patient/Observation.rs")
    app = App(clinic, "small")
    scope = "launch/patient patient/*.cruds user/*.rs openid offline_access"
    tokens = tokens_for(app, scope)
    assert tokens["scope"].split() == ["launch/patient", "patient/Observation.rs"]
    assert "refresh_token" not in tokens and "id_token" not in tokens
