"""A node that was invited for some tenants only, and is asked by others as well."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from edge.neighbours import Counts
from edge.node import Node
from index.entry import Purge
from sync.invites import Terms
from tests.edge.test_fleet import KEYS, TENANTS, fleet_of_two
from tests.fakes.doors import Door, ask
from tests.fakes.node import running_node, url
from tests.fakes.upstream import ScriptedUpstream

PROMPT = "what is the capital city of france"
ALL = "Bearer key-of-all"
TERMS = Terms(scopes=("tenant:eu",))
SETTINGS: dict[str, Any] = {"environ": KEYS, "keys": TENANTS, "cache": {"reach": "fleet"}}


async def complain(node: Node, request_id: str) -> tuple[int, dict[str, str]]:
    async with (
        aiohttp.ClientSession(url(node), headers={"authorization": ALL}) as session,
        session.post("/v1/feedback", json={"request_id": request_id}) as response,
    ):
        return response.status, await response.json()


async def called_wrong(node: Node, door: Door) -> dict[str, str]:
    answer = await ask(door, PROMPT, authorization=ALL)
    status, told = await complain(node, answer.headers["x-request-id"])
    assert status == 200
    return told


async def test_who_calls_an_answer_wrong_where_it_may_not_be_purged_elsewhere_is_told_so(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, [], TERMS, **SETTINGS) as two:
        told = await called_wrong(two.b, two.at_b)
        assert (told["quarantined"], told["reach"]) == ("answer", "node")
        assert (await ask(two.at_b, PROMPT, authorization=ALL)).cache["fwd"] == "miss"
        elsewhere = await called_wrong(two.a, two.at_a)
        assert (elsewhere["quarantined"], elsewhere["reach"]) == ("answer", "fleet")


async def test_whose_answers_nobody_takes_is_not_asked_for_them(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, [], Terms(may_publish=False)) as two:
        await ask(two.at_b, PROMPT)
        await two.a.fleet.neighbours.ask_around()
        assert (await ask(two.at_a, PROMPT)).cache["fwd"] == "miss"
        assert two.a.fleet.neighbours.counts == Counts()
        await two.b.fleet.neighbours.ask_around()
        assert (await ask(two.at_b, PROMPT)).cache["hit"] is True


async def test_what_was_called_wrong_there_does_not_return_with_a_restart_or_a_snapshot(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, [], TERMS, **SETTINGS) as two:
        await ask(two.at_b, PROMPT, authorization=ALL)
        snapshot = [part async for part in two.b._snapshots.export()]
        await called_wrong(two.b, two.at_b)
    settings = {**SETTINGS, "node": {"name": "sfo-1"}}
    async with running_node(tmp_path / "b", upstream.base_url, **settings) as b:
        assert b.answers.count(Purge()) == 0

        async def parts() -> AsyncIterator[bytes]:
            for part in snapshot:
                yield part

        told = await b._snapshots.take_in(parts())
        assert (told["taken"], told["not_taken"]["purged"]) == (0, 1)
