"""The part of the operator's listener that hands out API keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge.admission.issuing import OVERLAP_S, Terms
from edge.console import replies
from edge.console.membership import refusal
from index.entry import Timestamp
from sync.application import Refused
from sync.keybook import KeyRecord


@dataclass(frozen=True, slots=True)
class Told:
    """A key that was made, changed or revoked."""

    record: KeyRecord
    key: str | None = None
    """It itself, when it was made just now: nobody can see it again."""
    unaware: Sequence[str] = ()
    """Nodes that have not said that they know. They do as soon as they are reached."""
    kept: bool = True
    """Is it on disk? If not, it holds until this node restarts, or its disk takes it."""


class Keys(Protocol):
    async def create(self, terms: Terms) -> Told:
        """Raises Refused."""

    async def rotate(self, id_: str, overlap_s: float) -> Told:
        """Raises Refused."""

    async def revoke(self, id_: str) -> Told:
        """Raises Refused."""

    def records(self) -> Iterable[KeyRecord]: ...

    def now(self) -> Timestamp: ...


@dataclass(frozen=True, slots=True)
class _Rotate:
    id: str
    overlap_s: float = OVERLAP_S


@dataclass(frozen=True, slots=True)
class _Revoke:
    id: str


_CREATE, _ROTATE, _REVOKE = TypeAdapter(Terms), TypeAdapter(_Rotate), TypeAdapter(_Revoke)


def routes(keys: Keys) -> list[web.RouteDef]:
    """What is added to the listener."""

    async def create(request: web.Request) -> web.Response:
        try:
            told = await keys.create(_CREATE.validate_json(await request.read()))
        except (ValidationError, Refused) as exc:
            return refusal(exc)
        return _answer(told, keys.now())

    async def rotate(request: web.Request) -> web.Response:
        try:
            asked = _ROTATE.validate_json(await request.read())
            told = await keys.rotate(asked.id, asked.overlap_s)
        except (ValidationError, Refused) as exc:
            return refusal(exc)
        return _answer(told, keys.now())

    async def revoke(request: web.Request) -> web.Response:
        try:
            told = await keys.revoke(_REVOKE.validate_json(await request.read()).id)
        except (ValidationError, Refused) as exc:
            return refusal(exc)
        return _answer(told, keys.now())

    async def listed(_request: web.Request) -> web.Response:
        known = [_shown(one, keys.now()) for one in keys.records()]
        return replies.told({"keys": known})

    return [
        web.get("/admin/keys", listed),
        web.post("/admin/keys", create),
        web.post("/admin/keys/rotate", rotate),
        web.post("/admin/keys/revoke", revoke),
    ]


def _answer(told: Told, now: Timestamp) -> web.Response:
    document = {**_shown(told.record, now), "unaware": list(told.unaware), "kept": told.kept}
    if told.key is not None:
        document["key"] = told.key
    return replies.told(document)


def _shown(record: KeyRecord, now: Timestamp) -> Mapping[str, Any]:
    expired = now >= record.expires_at
    return {
        "id": record.id,
        "state": "revoked" if record.revoked else "expired" if expired else "valid",
        "tenant": record.tenant,
        "plan": record.plan or None,
        "scopes": list(record.scopes),
        "residency": None if record.residency is None else list(record.residency),
        "regions": None if record.regions is None else list(record.regions),
        "last": record.last,
        "made_at": record.made_at,
        "expires_at": record.expires_at if isfinite(record.expires_at) else None,
    }
