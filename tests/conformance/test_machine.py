"""R27: random lives of a server beside a dictionary (``machine.py``)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.machine import Machine
from tests.serving import BACKENDS

MOST = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def lives(backend: str, base: type[Machine] = Machine, seeded: int = 27, **limits: Any) -> None:
    machine = type("Life", (base,), {"backend": backend})
    run_state_machine_as_test(seed(seeded)(machine), settings=settings(**MOST, **limits))


@pytest.mark.slow
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_r27_some_lives(backend: str) -> None:
    lives(backend, max_examples=6, stateful_step_count=30)


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
def test_r27_a_server_that_loses_a_write_is_found_out(verb: str) -> None:
    class Forgetful(Machine):
        """Answers as if it had written."""

        def send(self, method: str, url: str, body: Any = None, **headers: str) -> Any:
            if method != verb:
                return super().send(method, url, body, **headers)
            before = self._server.run(self._server.domain.store.position())
            answer = super().send(method, url, body, **headers)
            if self._server.run(self._server.domain.store.position()) != before:
                id_ = url.partition("/")[2].partition("?")[0]
                if id_ in self.versions:
                    self.versions[id_].append({"resourceType": "Patient", "lost": True})
            return answer

    with pytest.raises(AssertionError):
        lives("memory", Forgetful, max_examples=9, stateful_step_count=20, phases=[Phase.generate])
