"""What the authorization server asks of who hands it its parts: a log of what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

What = Literal[
    "login",
    "second-factor",
    "lockout",
    "logout",
    "authorize",
    "token",
    "refresh",
    "introspect",
    "revoke",
    "withdraw",
    "launch",
    "userinfo",
    "register",
    "admin",
]
"""``login``: a password, or an external identity; ``second-factor``: a one-time or recovery
code, and its enrolment; ``lockout``: an attempt that is not even judged; ``authorize``: a code for
an app; ``withdraw``: a user ends what an app may do; ``register``: an app registers itself;
``admin``: users, clients, relationships, sessions and keys, by API or command.
"""
Outcome = Literal["success", "refused"]

COMMAND: Final = "command"
"""Who acts where it is not a user: who may run commands on the machine."""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """``user``, ``client``: who acts; a name that is not known is left out, for it may be a
    password in the wrong field. ``address``: of the peer. ``request``: its id. ``reason``: a word
    of a closed list (an OAuth error, a key of the message catalogue, an administrator's act).
    ``target``: what was acted on (``user/anna``, ``client/app``). No secret is ever in it.
    """

    what: What
    outcome: Outcome
    user: str = ""
    client: str = ""
    patient: str = ""
    address: str = ""
    request: str = ""
    reason: str = ""
    target: str = ""


class SecurityLog(Protocol):
    """Where events go. ``record`` raises Unavailable if it cannot be: what was asked is then
    refused.
    """

    async def record(self, event: SecurityEvent) -> None: ...


class Unrecorded:
    """Keeps nothing."""

    async def record(self, event: SecurityEvent) -> None:
        return
