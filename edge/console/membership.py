"""The part of the operator's listener that says who belongs to the fleet."""

from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge.console.replies import error, told
from index.entry import NodeName, Timestamp
from sync.application import Refused
from sync.enrolment import VALID_S
from sync.invites import Terms


@dataclass(frozen=True, slots=True)
class Invitation:
    token: str
    until: Timestamp
    address: str
    """Where whoever joins will dial."""


@dataclass(frozen=True, slots=True)
class Revocation:
    node: NodeName
    purged: int | None
    """Answers of that node that were here; None: they are still."""
    had_operator_key: bool
    """Then it can still say who belongs to the fleet."""


class Fleet(Protocol):
    async def invite(self, terms: Terms, valid_s: float) -> Invitation:
        """Raises Refused."""

    async def revoke(self, name: str, *, keep: bool = False) -> Revocation:
        """`keep`: what it fetched. Raises Refused."""


@dataclass(frozen=True, slots=True)
class _Invite:
    terms: Terms = field(default_factory=Terms)
    valid_s: float = VALID_S


@dataclass(frozen=True, slots=True)
class _Revoke:
    node: str
    keep: bool = False


_INVITE, _REVOKE = TypeAdapter(_Invite), TypeAdapter(_Revoke)


def routes(fleet: Fleet) -> list[web.RouteDef]:
    """What is added to the listener."""

    async def invite(request: web.Request) -> web.Response:
        try:
            asked = _INVITE.validate_json(await request.read() or b"{}", strict=True)
            made = await fleet.invite(asked.terms, asked.valid_s)
        except (ValidationError, Refused) as exc:
            return refusal(exc)
        return told({"token": made.token, "until": made.until, "address": made.address})

    async def revoke(request: web.Request) -> web.Response:
        try:
            asked = _REVOKE.validate_json(await request.read(), strict=True)
            done = await fleet.revoke(asked.node, keep=asked.keep)
        except (ValidationError, Refused) as exc:
            return refusal(exc)
        return told(
            {
                "node": done.node,
                "purged": done.purged,
                "had_operator_key": done.had_operator_key,
            }
        )

    return [web.post("/admin/invite", invite), web.post("/admin/revoke", revoke)]


def refusal(exc: ValidationError | Refused) -> web.Response:
    if isinstance(exc, Refused):
        return error(exc.status, f"{exc}.")
    first = exc.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return error(400, f"{place}: {first['msg']}." if place else f"{first['msg']}.")
