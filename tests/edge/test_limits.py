"""Two real nodes that grant from the same limits, whatever carries what they say."""

from pathlib import Path
from typing import Any

from edge.node import Node, monotonic
from index.entry import NodeName, Version
from sync.messages import Grant, Grants
from sync.roster import Enrolment
from tests.edge.test_fleet import Two, fleet_of_two, urls
from tests.fakes.doors import ask, chat
from tests.fakes.eventually import until
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream

__all__ = ["urls"]
"""A fixture: of NATS servers, or none."""

LIMIT = 1_200
USED = 12
"""Tokens that the fake upstream says each answer took."""
KEY = {"authorization": "Bearer key-of-acme"}
SETTINGS: dict[str, Any] = {
    "environ": {"KEY": "key-of-acme"},
    # A day's, so that no second that a busy machine takes brings any back.
    "plans": [{"name": "pro", "tokens_per_day": LIMIT}],
    "keys": [{"tenant": "acme", "key_env": "KEY", "plan": "pro"}],
}


def left(node: Node) -> int:
    usage = node._gate._quotas.usage("acme", "pro", monotonic())
    assert usage is not None
    assert usage.day is not None
    return usage.day.left(monotonic())


def turn(node: Node) -> int:
    return node._gate._quotas._fleet.turn


async def turns(two: Two, count: int = 3) -> None:
    """Until both have told and heard as often."""
    ends = [(node, turn(node) + count) for node in (two.a, two.b)]
    await until(lambda: all(turn(node) >= end for node, end in ends))


async def granted_until_refused(two: Two) -> int:
    """Calls that two nodes grant, asked in turn until neither grants any more."""
    granted, refused, number = 0, 0, 0
    while refused < 3:
        statuses = []
        for door in (two.at_a, two.at_b):
            number += 1
            asked = chat(f"what is {number}", max_tokens=USED)
            statuses.append((await ask(door, asked, **KEY)).status)
        granted += statuses.count(200)
        refused = refused + 1 if statuses == [429, 429] else 0
        if refused:
            await turns(two)
    return granted


async def test_two_nodes_together_grant_what_the_plan_allows(
    upstream: ScriptedUpstream, tmp_path: Path, urls: list[str]
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, urls, **SETTINGS) as two:
        await until(lambda: two.a.fleet.granting() and two.b.fleet.granting())
        await turns(two)
        granted = await granted_until_refused(two)
        assert 0.9 * LIMIT < granted * USED < 1.2 * LIMIT
        assert left(two.a) < 60
        assert left(two.b) < 60


async def test_each_node_grants_its_own_where_that_is_wanted(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "admission": {"quotas": "node"}}
    async with fleet_of_two(tmp_path, upstream.base_url, [], **settings) as two:
        for number in range(10):
            await ask(two.at_a, f"what is {number}", **KEY)
        assert (left(two.a), left(two.b)) == (LIMIT - 10 * USED, LIMIT)


async def test_only_who_may_have_a_tenants_answers_uses_up_its_limits(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with running_node(tmp_path, upstream.base_url, **SETTINGS) as node:
        own = node.fleet.roster.member(node.fleet.name)
        assert own is not None
        told = Grants((Grant("acme", "pro", ((600.0, 0.0, 0.0),)),))
        node._limits.hear(NodeName("stranger.00000000"), told)
        assert left(node) == LIMIT
        _enrol(node, "other", own, scopes=("tenant:other",))
        node._limits.hear(NodeName("other"), told)
        assert left(node) == LIMIT
        _enrol(node, "member", own, scopes=("tenant:a*",))
        node._limits.hear(NodeName("member"), told)
        assert left(node) == LIMIT - 600


def _enrol(node: Node, name: str, like: Enrolment, scopes: tuple[str, ...]) -> None:
    """As the roster would have it once the operator had signed it."""
    made = Enrolment(
        NodeName(name), like.public_key, "eu", "", Version(1), like.name, scopes=scopes
    )
    node.fleet.roster._enrolments[made.name] = made
