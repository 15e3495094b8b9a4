"""May memory answer this request, and may its answer be remembered?

Two voices are heard, and the stricter one wins: the operator's route, and the request's own
`Cache-Control` (RFC 9111, 5.2.1) and `Prompt-Cache: exact | semantic | off`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from fnmatch import fnmatchcase
from itertools import chain
from math import inf
from typing import Annotated, Literal, assert_never

from annotated_types import Ge, Gt, Interval

from edge.errors import ClientError
from index.eligibility import PromptClass, check_overrides
from index.entry import EVERYWHERE, TTL_MAX_S, Reach, Scope


class Mode(IntEnum):
    """How far memory may go for an answer; the lower, the tighter."""

    OFF = 0
    EXACT = 1
    SEMANTIC = 2


ModeName = Literal["off", "exact", "semantic"]
ReachName = Literal["node", "region", "fleet"]
ClassName = Literal["bypass", "exact-only", "thread-scoped", "semantic"]


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """How answers of some models are cached; the first route whose `model` matches counts."""

    model: str
    """A model name, or a pattern with `*` and `?`."""
    ttl_s: Annotated[float, Interval(gt=0, le=TTL_MAX_S)] | None = None
    """How long their answers stay fresh, in seconds; unset: `cache.ttl_s`."""
    mode: ModeName | None = None
    """How far memory may go for them; unset: `cache.mode`."""
    classes: dict[str, ClassName] = field(default_factory=dict)
    """By reason, which class prompts belong to, over `cache.classes`: see docs/semantic.md."""
    shared: bool = False
    """Whether a request that `sharing.tenants_min` tenants sent, word for word, is answered to all
    tenants from a common pool. Without API keys everything is common already."""
    labels: tuple[str, ...] = ()
    """What their answers can be purged by, besides `model:NAME`, `route:PATTERN` (as in `model`),
    `by:NODE`, and what the upstream names in `Cache-Groups` or `Surrogate-Key`."""
    reach: ReachName | None = None
    """How far their answers may travel; unset: `cache.reach`."""
    stale_if_error_s: Annotated[float, Ge(0)] | None = None
    """How long after they expired they may be served while no upstream answers; unset:
    `cache.stale_if_error_s`."""
    stale_while_revalidate_s: Annotated[float, Ge(0)] | None = None
    """How long after they expired they are served at once and fetched anew beside that; unset:
    `cache.stale_while_revalidate_s`."""
    regions: tuple[str, ...] = ()
    """Regions whose upstreams (`upstreams.region`) may be sent these prompts. Empty: any."""
    local: bool = False
    """Whether an upstream of tier `local` may answer when no other can. Such an answer says so
    (`X-Promptedge-Upstream`) and is not stored."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What is cached, and for how long."""

    mode: ModeName = "semantic"
    """How far memory may go: `semantic`, `exact` or `off`. A request may tighten it only."""
    ttl_s: Annotated[float, Interval(gt=0, le=TTL_MAX_S)] = 86_400
    """How long an answer stays fresh, in seconds; 30 days at most."""
    time_bound_ttl_s: Annotated[float, Interval(gt=0, le=TTL_MAX_S)] = 60
    """The same for prompts that speak of now, today or the latest, whose answers age quickly."""
    temperature_max: Annotated[float, Ge(0)] = 2.0
    """Requests above this temperature are not cached. 2.0, the API's highest, never forbids it."""
    ignored_parameters: tuple[str, ...] = ()
    """Request parameters left out of the key, such as `user` or `metadata`. Naming one says that it
    never changes an answer: two requests that differ in it will share theirs."""
    classes: dict[str, ClassName] = field(default_factory=dict)
    """What memory may do for a prompt, by the reason that the gate gives, where that is not to be
    the default: `{ personal = "semantic" }`. See docs/semantic.md for reasons and classes."""
    answer_bytes_max: Annotated[int, Gt(0)] = 4 * 1024 * 1024
    """Larger answers pass through and are not stored."""
    negative_ttl_s: Annotated[float, Interval(ge=0, le=60)] = 10
    """How long an upstream's refusal of a request for the request's own sake (400, 404, 413, 422: a
    prompt that is too long, a model that it does not have) is said again, in seconds; 0: never."""
    reach: ReachName | None = None
    """How far an answer may travel: it stays on the `node` that fetched it, in its `region`
    (`sync.region`), or goes to all of the `fleet`. Unset: `region` with API keys, else `fleet`."""
    stale_if_error_s: Annotated[float, Ge(0)] = 0
    """How long after it expired an answer may be served while no upstream answers, in seconds; 0:
    never. The same while too many wait for upstreams (`admission.stale_after_s`). Expired answers
    are kept so long, while there is room. Never: purged ones, and those to prompts that speak of
    now."""
    stale_while_revalidate_s: Annotated[float, Ge(0)] = 0
    """How long after it expired an answer is served at once, while the node fetches a new one, in
    seconds; 0: never, whoever asks waits for the new one. With the same exceptions."""


@dataclass(frozen=True, slots=True)
class Route:
    """`RouteSettings` with its gaps filled."""

    ttl_s: float
    mode: Mode
    pattern: str = "*"
    """Which route it is, to keep their records apart."""
    classes: Mapping[str, PromptClass] = field(default_factory=dict)
    shared: bool = False
    labels: tuple[str, ...] = ()
    reach: ReachName = "fleet"
    stale_if_error_s: float = 0.0
    stale_while_revalidate_s: float = 0.0
    regions: tuple[str, ...] = ()
    local: bool = False


def expired_served_s(cache: CacheSettings, routes: tuple[RouteSettings, ...]) -> float:
    """How long after it expired an answer may still be served, of whatever route."""
    of_routes = ((one.stale_if_error_s, one.stale_while_revalidate_s) for one in routes)
    said = (cache.stale_if_error_s, cache.stale_while_revalidate_s, *chain.from_iterable(of_routes))
    return max(seconds or 0.0 for seconds in said)


def route(
    model: str, routes: tuple[RouteSettings, ...], default: CacheSettings, *, keys: bool = False
) -> Route:
    """The caching rules for `model`, on a node that asks for API `keys` or not."""
    mode, reach = default.mode, default.reach or ("region" if keys else "fleet")
    for one in routes:
        if fnmatchcase(model, one.model):
            stale_s, again_s = one.stale_if_error_s, one.stale_while_revalidate_s
            return Route(
                ttl_s=one.ttl_s or default.ttl_s,
                mode=Mode[(one.mode or mode).upper()],
                pattern=one.model,
                classes=check_overrides({**default.classes, **one.classes}),
                shared=one.shared,
                labels=(f"route:{one.model}", *one.labels),
                reach=one.reach or reach,
                stale_if_error_s=default.stale_if_error_s if stale_s is None else stale_s,
                stale_while_revalidate_s=(
                    default.stale_while_revalidate_s if again_s is None else again_s
                ),
                regions=one.regions,
                local=one.local,
            )
    return Route(
        ttl_s=default.ttl_s,
        mode=Mode[mode.upper()],
        classes=check_overrides(default.classes),
        reach=reach,
        stale_if_error_s=default.stale_if_error_s,
        stale_while_revalidate_s=default.stale_while_revalidate_s,
    )


def reach_of(name: ReachName, region: str, residency: tuple[str, ...] | None) -> Reach | None:
    """Where an answer that was fetched in `region` may be kept; None: nowhere, not here either.

    `residency` are the regions that whoever asked allows; None: all. Nodes whose region has no name
    are not of one region: between them only what may go everywhere travels.
    """
    if residency is not None and region not in residency:
        return None
    match name:
        case "node":
            return ()
        case "region":
            return (region,) if region else ()
        case "fleet":
            return EVERYWHERE if residency is None else tuple(sorted(residency))
    assert_never(name)


def regions_of(route: Route, allowed: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Where a prompt may be answered; None: anywhere. `allowed` is what its sender allows."""
    if allowed is None:
        return route.regions or None
    return tuple(one for one in allowed if not route.regions or one in route.regions)


def kind_of(scope: Scope, rules: Route, cls: PromptClass) -> str:
    """The class of prompts whose record by meaning is kept together, by name."""
    return f"{scope}|{rules.pattern}|{cls}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one request allows memory to do."""

    mode: Mode
    """OFF: neither look up nor store."""
    lookup: bool
    store: bool
    age_max_s: float | None = None
    only_if_cached: bool = False
    fresh_min_s: float = 0.0
    """For so long the answer is to be fresh still."""
    stale_max_s: float = inf
    """So long ago it may have expired, where the operator lets expired ones be served."""

    @property
    def plain(self) -> bool:
        """Has the request no wishes of its own, so that its answer is that of any like it?"""
        none = Allowed(self.mode, self.mode > Mode.OFF, self.mode > Mode.OFF)
        return self.mode > Mode.OFF and self == none


def allowed(headers: Mapping[str, str], ceiling: Mode) -> Allowed:
    """What the request's own fields leave of `ceiling`.

    Raises:
        ClientError: `Prompt-Cache` has a value we do not know; obeying it by half could be wrong.
    """
    mode = min(ceiling, _prompt_cache(headers.get("prompt-cache")))
    field = headers.get("cache-control")
    if field is None and headers.get("pragma", "").strip().lower() == "no-cache":
        field = "no-cache"  # RFC 9111, 5.4
    if not field:
        return Allowed(mode, lookup=mode > Mode.OFF, store=mode > Mode.OFF)
    directives = dict(_directive(part) for part in field.split(","))
    age_max_s = _seconds(directives.get("max-age"))
    fresh_enough = not directives.keys() & {"no-cache", "no-store"} and age_max_s != 0
    return Allowed(
        mode,
        lookup=mode > Mode.OFF and fresh_enough,
        store=mode > Mode.OFF and "no-store" not in directives,
        age_max_s=age_max_s,
        only_if_cached="only-if-cached" in directives,
        fresh_min_s=_seconds(directives.get("min-fresh")) or 0.0,
        stale_max_s=_stale_max_s(directives),
    )


def _prompt_cache(value: str | None) -> Mode:
    if value is None:
        return Mode.SEMANTIC
    try:
        return Mode[value.strip().upper()]
    except KeyError as exc:
        raise ClientError(
            f"Prompt-Cache must be exact, semantic or off, not {value!r}.",
            code="invalid_header",
            param="Prompt-Cache",
        ) from exc


def _stale_max_s(directives: Mapping[str, str]) -> float:
    """`max-stale` alone: however stale (RFC 9111, 5.2.1.2). Who says how old or how fresh it is to
    be wants no stale one, unless that is said too (5.2.1.1, 5.2.1.3)."""
    most = directives.get("max-stale")
    if most is None:
        return 0.0 if directives.keys() & {"max-age", "min-fresh"} else inf
    return (_seconds(most) or 0.0) if most else inf


def _directive(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip().strip('"')


def _seconds(value: str | None) -> float | None:
    """A delta-seconds; one that cannot be read counts as stale (RFC 9111, 4.2.1)."""
    if value is None:
        return None
    return float(value) if value.isascii() and value.isdecimal() else 0.0
