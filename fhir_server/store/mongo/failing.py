"""Failures of the database as problems that a client sees, and what may be tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pymongo.errors import ExecutionTimeout, OperationFailure, PyMongoError

from fhir_server.model.problem import Unavailable

SNAPSHOT_GONE: Final = frozenset({239, 246})
"""SnapshotTooOld, SnapshotUnavailable: look again at a newer one."""
RETRY: Final = {"Retry-After": "2"}


class Uncertain(Unavailable):
    """Whether a write has taken effect is not known."""


@contextmanager
def answering() -> Iterator[None]:
    """Turns every failure of the database into a Problem. That what looks at few documents takes
    too long is no fault of who has asked."""
    try:
        yield
    except ExecutionTimeout as error:
        raise Unavailable("the database is too slow at present", headers=RETRY) from error
    except OperationFailure as error:
        if error.code == 2 and "hint" in str(error):
            text = "an index that the server needs is missing in MongoDB: start the server again"
            raise Unavailable(text) from error
        raise Unavailable("the database refuses: " + _name(error), headers=RETRY) from error
    except PyMongoError as error:
        raise Unavailable("the database does not answer", headers=RETRY) from error


def _name(error: OperationFailure) -> str:
    return str((error.details or {}).get("codeName") or f"code {error.code}")


def transient(error: PyMongoError) -> bool:
    """Whether the whole transaction may be tried again: nothing of it is there."""
    return error.has_error_label("TransientTransactionError")


def uncertain(error: PyMongoError) -> bool:
    """Whether a commit may have taken effect; committing again is safe."""
    return error.has_error_label("UnknownTransactionCommitResult")
