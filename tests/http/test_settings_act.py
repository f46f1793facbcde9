"""Every setting does what its row says: one row here for each, or this fails."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fhir_server.config import Settings
from tests.http.acts import (
    PATIENT,
    ROOT,
    Act,
    both,
    data,
    domain,
    elsewhere,
    entries,
    host,
    models,
    nothing_kept,
    of_edge,
    of_uvicorn,
    only_its_default,
    origin,
    pages,
    rated,
    retention,
    seen,
    several,
    status,
    uncompressed,
    urls,
    zone,
)

pytestmark = pytest.mark.slow
MONITORING = "tests/operations/models/test_model_monitoring.py"
REGISTRY = "tests/operations/models/test_model_registry.py"
ADMISSION = "tests/http/test_admission.py::"
LONG = {"resourceType": "Patient", "name": [{"text": "x" * 3000}]}
BANK = "tests/research/test_bank.py"


ACTS: dict[str, tuple[Any, Act]] = {
    "data": (None, data),
    "store": (None, nothing_kept),
    "terminology": (
        None,
        elsewhere(
            "tests/operations/codes/test_relay.py::test_what_is_not_known_here_is_asked_there"
        ),
    ),
    "search": (None, elsewhere("tests/elastic/test_failing.py::test_on_a_server")),
    **{
        name: (None, elsewhere(f"tests/elastic/test_failing.py::{test}"))
        for name, test in (
            ("search_secret", "test_it_shows_its_secret"),
            ("search_secret_file", "test_it_shows_its_secret"),
            ("search_ca", "test_certificates_are_judged"),
        )
    },
    "sensitivity": (None, elsewhere("tests/consent/test_settings.py::test_own_rules_label")),
    "unrecorded_consent": (
        None,
        elsewhere("tests/consent/test_settings.py::test_what_holds_without_a_consent"),
    ),
    "break_glass_minutes": (
        0,
        elsewhere("tests/consent/test_break_glass.py::test_a_domain_may_have_none_of_it"),
    ),
    "profiles": (
        None,
        elsewhere(
            "tests/operations/test_validate.py::test_profiles_are_enforced_alone_as_in_a_bundle"
        ),
    ),
    "events": ("EVENTS", only_its_default),
    "models": (None, models),
    "deid": (None, elsewhere("tests/operations/deid/test_linter.py::test_the_commands")),
    "deid_keys": (None, elsewhere("tests/operations/deid/test_linter.py::test_the_commands")),
    "model_keys": (None, elsewhere(f"{REGISTRY}::test_only_signed_packages_where_keys_are_set")),
    "model_seconds": (7, elsewhere(f"{REGISTRY}::test_the_limits_of_workers_are_settings")),
    "model_memory": (700, elsewhere(f"{REGISTRY}::test_the_limits_of_workers_are_settings")),
    "model_providers": (
        ("CUDAExecutionProvider",),
        elsewhere(f"{REGISTRY}::test_the_limits_of_workers_are_settings"),
    ),
    "model_watch_seconds": (
        1,
        elsewhere(f"{MONITORING}::test_a_server_looks_by_itself"),
    ),
    "model_workers": (3, elsewhere(f"{REGISTRY}::test_the_limits_of_workers_are_settings")),
    "auto_predict_seconds": (
        1,
        elsewhere("tests/http/test_automatic_predictions.py::test_only_where_it_is_switched_on"),
    ),
    "imports": (None, elsewhere("tests/operations/test_import.py::test_files_of_the_folder")),
    "research": ("off", elsewhere(f"{BANK}::test_settings_of_the_face")),
    "research_minutes": (1, elsewhere(f"{BANK}::test_runs_by_themselves")),
    "research_project": ("study", elsewhere(f"{BANK}::test_l63_what_researchers_see")),
    "research_least": (1, elsewhere(f"{BANK}::test_settings_of_the_face")),
    "base_url": ("https://ehr.example", seen(urls, "base_url")),
    "domain": ("north", domain),
    "hosts": (("other.example",), seen(host, "hosts", open_=False)),
    "origins": (("https://app.example",), seen(origin, "origins", open_=False)),
    "second_factor": (
        "required",
        elsewhere("tests/smart/test_second_factor.py::test_clinicians_may_be_made_to_have_one"),
    ),
    **{
        name: (None, elsewhere(f"tests/workers/test_tls.py::{test}"))
        for name, test in (
            ("tls_cert", "test_it_serves_https_with_hsts"),
            ("tls_key", "test_settings_that_do_not_fit_are_one_line"),
        )
    },
    "proxies": (None, elsewhere("tests/http/test_rates.py::test_t19_only_proxies_are_believed")),
    "user_rate": (2, seen(rated, "user_rate", open_=False)),
    "client_rate": (2, seen(rated, "client_rate", open_=False)),
    "delicate_rate": (
        None,
        elsewhere("tests/http/test_rates.py::test_t20_delicate_acts_have_a_limit_of_their_own"),
    ),
    "login_provider": (
        None,
        elsewhere("tests/auth/test_external.py::test_a_user_signs_in_by_the_provider"),
    ),
    "registration": (
        "token",
        elsewhere("tests/auth/test_registration.py::test_an_app_registers_and_is_used"),
    ),
    "outbound_loopback": (
        "yes",
        elsewhere("tests/smart/test_g_backend.py::test_g24_key_sets_by_url"),
    ),
    "time_zone": ("Europe/Kyiv", seen(zone, "time_zone")),
    "page_size": (2, seen(pages(2, ""), "page_size")),
    "max_page_size": (3, seen(pages(3, "_count=100"), "max_page_size")),
    "max_body": (1000, seen(status("POST", "Patient", 413, json=LONG), "max_body")),
    "max_content": (
        1000,
        seen(
            status("POST", "Binary", 413, content=b"x" * 1001, headers={"content-type": "a/b"}),
            "max_content",
        ),
    ),
    "max_depth": (
        3,
        seen(
            status("POST", "Patient", 400, json=PATIENT | {"name": [{"given": ["x"]}]}), "max_depth"
        ),
    ),
    "max_string": (2999, seen(status("POST", "Patient", 400, json=LONG), "max_string")),
    "max_array": (
        2,
        seen(status("POST", "Patient", 400, json=PATIENT | {"name": [{}, {}, {}]}), "max_array"),
    ),
    "max_entries": (2, seen(status("POST", "", 413, json=entries(3)), "max_entries")),
    "max_url": (100, seen(status("GET", f"Patient?name={'x' * 100}", 400), "max_url")),
    "max_headers": (
        400,
        seen(status("GET", "Patient", 400, headers={"x-long": "x" * 400}), "max_headers"),
    ),
    "conditional_delete": ("multiple", seen(several, "conditional_delete")),
    "request_seconds": (
        1,
        elsewhere("tests/http/test_edge.py::test_a_request_that_takes_too_long"),
    ),
    **{
        name: (
            3,
            elsewhere("tests/conformance/test_search_limits.py::test_c33_limits_are_named"),
        )
        for name in ("max_values", "max_chain", "max_includes")
    },
    "max_running": (
        2,
        both(
            of_edge("max_running"),
            elsewhere(f"{ADMISSION}test_r12_beyond_the_limit_requests_are_refused_at_once"),
        ),
    ),
    "max_slow": (
        2,
        elsewhere("tests/security/test_t13_shares.py::test_t13_one_asks_dear_queries_others_go_on"),
    ),
    "max_held": (
        99,
        both(of_edge("max_held"), elsewhere(f"{ADMISSION}test_bodies_in_memory_are_bounded")),
    ),
    "max_connections": (
        3,
        both(
            of_uvicorn("max_connections", lambda c: c.limits.connections),
            elsewhere(f"{ADMISSION}test_connections_are_bounded"),
        ),
    ),
    "head_seconds": (
        1,
        both(
            of_uvicorn("head_seconds", lambda c: c.limits.head_seconds),
            elsewhere(f"{ADMISSION}test_r13_slow_heads_are_closed_and_others_unaffected"),
        ),
    ),
    "stall_seconds": (
        1,
        both(
            of_uvicorn("stall_seconds", lambda c: c.limits.stall_seconds),
            elsewhere(f"{ADMISSION}test_r13_a_client_that_does_not_read"),
        ),
    ),
    "idle_seconds": (
        7,
        both(
            of_uvicorn("idle_seconds", lambda c: c.timeout_keep_alive),
            elsewhere(f"{ADMISSION}test_idle_connections_are_closed"),
        ),
    ),
    "compress_above": (
        0,
        both(
            seen(uncompressed, "compress_above"),
            elsewhere(
                "tests/http/test_bad_input.py::test_large_answers_are_compressed_for_who_takes_that"
            ),
        ),
    ),
    "leave_seconds": (None, elsewhere("tests/workers/test_workers.py::test_r23_sigterm_drains")),
    "max_jobs": (2, elsewhere("tests/http/test_async.py::test_the_limit_per_owner")),
    "running_jobs": (
        1,
        elsewhere("tests/jobs/test_runner.py::test_width_is_respected_and_the_oldest_goes_first"),
    ),
    "job_lease_seconds": (
        5,
        elsewhere("tests/workers/test_workers.py::test_jobs_of_a_killed_worker_end_exactly_once"),
    ),
    "job_hours": (
        3,
        both(
            retention,
            elsewhere("tests/jobs/test_queue.py::test_ended_jobs_are_forgotten_with_their_files"),
        ),
    ),
    "audit_days": (
        400,
        elsewhere("tests/audit/test_retention.py::test_a_server_removes_what_is_too_old"),
    ),
    "backup_key": (
        None,
        elsewhere("tests/cli/test_backup.py::test_an_encrypted_backup_restores_whole"),
    ),
    "blobs": (
        None,
        elsewhere("tests/store/test_s3.py::test_a_server_keeps_large_contents_there"),
    ),
    "erase_log": (
        None,
        elsewhere(
            "tests/operations/expunge/test_expunge.py"
            "::test_a_log_that_cannot_be_written_is_said_and_made_up_for"
        ),
    ),
    "metrics_token": (
        None,
        elsewhere("tests/security/test_metrics.py::test_with_a_token_only_by_it"),
    ),
}


@pytest.mark.parametrize("name", [row.name for row in fields(Settings)])
def test_a_setting_acts(tmp_path: Path, name: str) -> None:
    value, act = ACTS[name]
    act(tmp_path, value)


def test_nothing_else_is_listed() -> None:
    assert ACTS.keys() == {row.name for row in fields(Settings)}
    with pytest.raises(AssertionError):
        elsewhere("tests/http/test_edge.py::test_that_is_not_there")(ROOT, None)
