"""What an operator should know of this node's part in its fleet and would not notice, in sentences
that say what to do. Shown in `promptedge status`, and logged when it begins to hold.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge.policy import ReachName
from index.entry import NodeName
from sync.enrolment import DEFAULT_REGION
from sync.roster import Enrolment

log = logging.getLogger("fleet")

LOOK_S = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    own: Enrolment
    others: Sequence[Enrolment]
    """Those that were not revoked."""
    has_operator_key: bool
    region: str
    """As configured; empty: not at all."""
    reaches: frozenset[ReachName]
    """Of all routes."""
    revoked_by: Sequence[NodeName]
    """Nodes that say this one was revoked."""
    skewed: Mapping[NodeName, float]
    """Clocks that are too far ahead of this node's, or behind it if negative, in seconds; its own
    compared with what it has said already."""
    undigested: int
    """Questions for a digest for which there was no room."""


def advice(one: Standing) -> list[str]:
    return [sentence for rule in _RULES for sentence in rule(one)]


def _revoked(one: Standing) -> Iterator[str]:
    if one.revoked_by:
        yield (
            f"This node was revoked, says {', '.join(one.revoked_by)}: it serves on alone, is told "
            "nothing, and its purges reach nobody. If it should belong to the fleet, give it a new "
            "data directory and join again; if not, stop it"
        )


def _misplaced(one: Standing) -> Iterator[str]:
    if one.region and one.region != one.own.region:
        yield (
            f'sync.region is "{one.region}", but this node was enrolled in "{one.own.region}", '
            "which counts: join again, with a new token, to move it"
        )


def _alone_in_its_region(one: Standing) -> Iterator[str]:
    if not one.others or "fleet" in one.reaches or "region" not in one.reaches:
        return
    region = one.own.region
    if any(other.region == region for other in one.others):
        return
    named = "has no name" if region == DEFAULT_REGION else f'is "{region}"'
    elsewhere = ", ".join(sorted({other.region for other in one.others}))
    yield (
        f"Answers are shared with NO other node: they stay in their region (the default with API "
        f"keys), which {named}, and all others are in {elsewhere}. If answers may travel, set "
        'cache.reach = "fleet"; if these nodes are in one region, give them the same sync.region'
    )


def _nameless(one: Standing) -> Iterator[str]:
    if one.own.region != DEFAULT_REGION or "region" not in one.reaches:
        return
    if any(other.region == DEFAULT_REGION for other in one.others):
        yield (
            "Answers stay in their region (the default with API keys), and this node's has no "
            "name: all without sync.region count as one region, wherever they are. Set it on each"
        )


def _one_key(one: Standing) -> Iterator[str]:
    holders = [other.name for other in one.others if other.may_invite]
    if not one.others or holders:
        return
    if one.has_operator_key:
        yield (
            "No other node may invite and revoke, make API keys and renew certificates: keep a "
            "copy of the directory fleet of this node's data in a safe place, or invite one more "
            "without --no-invite"
        )
    else:
        yield (
            "No node is left that may invite and revoke, make API keys and renew certificates: "
            "see docs/fleet.md, who may invite"
        )


def _skewed(one: Standing) -> Iterator[str]:
    for name, ahead_s in sorted(one.skewed.items()):
        if name == one.own.name:
            yield (
                f"This node's clock was ahead once, and for {ahead_s:.0f} s more others take "
                "nothing that it says, purges neither. If that is too long, stop it, delete fleet "
                "and fleet.db* in its data directory, and join again"
            )
        elif ahead_s > 0:
            yield (
                f"The clock of {name} is {ahead_s:.0f} s ahead of this node's, so nothing that it "
                "says is taken here, purges neither: set both clocks (NTP)"
            )
        else:
            yield (
                f"The clock of {name} is {-ahead_s:.0f} s behind this node's, so it takes nothing "
                "that this one says, purges neither: set both clocks (NTP)"
            )


def _undigested(one: Standing) -> Iterator[str]:
    if one.undigested:
        yield (
            "Some nodes are not told what is here, as there are too many lists of scopes in too "
            "many regions: they ask an upstream for what they miss. Invite nodes with fewer "
            "different --scope"
        )


_RULES = (_revoked, _misplaced, _alone_in_its_region, _nameless, _one_key, _skewed, _undigested)


async def keep_saying(current: Callable[[], list[str]]) -> None:
    """Log what begins to hold. Works until cancelled."""
    said: set[str] = set()
    while True:
        now = current()
        for sentence in now:
            if sentence not in said:
                log.warning("event=advice what=%s", sentence)
        said = set(now)
        await asyncio.sleep(LOOK_S)
