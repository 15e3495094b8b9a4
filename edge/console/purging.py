"""The part of the operator's listener that purges."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiohttp import web

from edge.console.replies import error, told
from edge.errors import ClientError
from edge.json_body import read_object
from index.entry import CacheKey, Purge, Scope
from sync.replica import PurgeRefused

CONFIRM_S = 2.0
"""How long other nodes have to confirm a purge, unless the request says otherwise, before they are
named as those that have not."""
CONFIRM_MAX_S = 60.0


class Purged(Protocol):
    """See `edge.fleet.Purging`."""

    @property
    def matched(self) -> int: ...
    @property
    def confirmed(self) -> Sequence[str]: ...
    @property
    def unconfirmed(self) -> Sequence[str]: ...
    @property
    def revoked(self) -> bool: ...


class Purges(Protocol):
    """See `edge.purges`."""

    async def count(self, purge: Purge) -> int:
        """How many answers of this node it would remove."""

    async def purge(self, purge: Purge, *, soft: bool, wait_s: float) -> Purged:
        """Purge on every node, or mark stale (`soft`). Others have `wait_s` to confirm it. Raises
        PurgeRefused."""


KeyOf = Callable[[Scope, bytes], CacheKey]
"""The key of a request's answer. Raises ValueError."""


def routes(purges: Purges, key_of: KeyOf) -> list[web.RouteDef]:
    """What is added to the listener."""

    async def purge(request: web.Request) -> web.Response:
        try:
            asked = read_object(await request.read())
            what = _purge_of(asked, key_of)
        except (ValueError, ClientError) as exc:
            return error(400, f"{str(exc).rstrip('.')}. {_HELP}.")
        soft, wait_s = asked.get("soft") is True, asked.get("wait_s", CONFIRM_S)
        if asked.get("dry_run") is True:
            return told(_told(await purges.count(what)))
        try:
            done = await purges.purge(what, soft=soft, wait_s=wait_s)
        except PurgeRefused as exc:
            return error(403, f"This node may not purge that, as it is {exc}: ask another node.")
        return told(
            {
                **_told(done.matched, purged=0 if soft else done.matched),
                "confirmed": list(done.confirmed),
                "unconfirmed": list(done.unconfirmed),
                "revoked": done.revoked,
            }
        )

    return [web.post("/admin/purge", purge)]


def _told(matched: int, purged: int = 0) -> dict[str, Any]:
    nobody = {"confirmed": [], "unconfirmed": [], "revoked": False}
    return {"matched": matched, "purged": purged, **nobody}


_HELP = (
    'Say what to purge: {"everything": true}, or any of "tenant", "request" (a chat request whose '
    'answer is to go) and one of "label", "model" and "route" (its pattern); "soft": true makes '
    'stale what would go, "dry_run": true only counts here, "wait_s" is how long other nodes have '
    "to confirm it"
)
_LABELS = {"label": "", "model": "model:", "route": "route:"}
_NARROWING = ("tenant", "request", *_LABELS)


def _purge_of(asked: dict[str, Any], key_of: KeyOf) -> Purge:
    unknown = asked.keys() - {"everything", *_NARROWING, "soft", "dry_run", "wait_s"}
    if unknown:
        raise ValueError(f"Unknown: {', '.join(sorted(unknown))}")
    wait_s = asked.get("wait_s", CONFIRM_S)
    if type(wait_s) not in (int, float) or not 0 <= wait_s <= CONFIRM_MAX_S:
        raise ValueError(f"wait_s is a number of seconds, {CONFIRM_MAX_S:.0f} at most")
    narrowed = asked.keys() & set(_NARROWING)
    if bool(asked.get("everything")) == bool(narrowed):
        raise ValueError("Either everything or a part")
    # Sent as null they narrow nothing: a script whose variable is empty would purge everything.
    if any(not (isinstance(asked[name], str) and asked[name]) for name in narrowed - {"request"}):
        raise ValueError("Tenant, label, model and route must be names")
    labels = [f"{prefix}{asked[name]}" for name, prefix in _LABELS.items() if name in asked]
    if len(labels) > 1:
        raise ValueError("One of label, model and route, as each narrows alone")
    scope = Scope(f"tenant:{asked['tenant']}") if "tenant" in asked else None
    key = None
    if "request" in asked:
        key = key_of(scope or Scope("shared"), json.dumps(asked["request"]).encode())
    return Purge(scope=scope, label=labels[0] if labels else None, key=key)
